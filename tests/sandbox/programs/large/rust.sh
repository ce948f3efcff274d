# needs: rustc
# says: 6

cat >a.rs <<'END'
fn main() {
    let threads: Vec<_> = (0..4).map(|n| std::thread::spawn(move || n)).collect();
    println!("{}", threads.into_iter().map(|each| each.join().unwrap()).sum::<i32>());
}
END
rustc -C opt-level=2 -o a a.rs && ./a
