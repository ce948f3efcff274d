# says: 5050

cat >a.py <<'END'
import concurrent.futures, multiprocessing

if __name__ == "__main__":
    with concurrent.futures.ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        print(sum(pool.map(abs, range(-100, 0))))
END
"$python" a.py
