"""The other side: what the barriers must not break. Compilers, debuggers, runtimes, a browser, MPI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox.barriers.attackers import Attacker
    from tests.sandbox.running import Sandboxes

CRASH = r"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int answer(int question) { return question + 1; }
int main(int count, char **words) {
    if (count > 1)
        sleep(60);
    printf("%d\n", answer(41));
    return 0;
}
"""
LEAK = '#include <stdlib.h>\nint main(void) { volatile char *lost = malloc(123); lost = 0; return 0; }\n'
MPI = r"""
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
int main(int count, char **words) {
    int rank, size = 1 << 20;
    MPI_Init(&count, &words);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    char *data = calloc(size, 1);
    if (rank == 0) {
        data[size - 1] = 7;
        MPI_Send(data, size, MPI_CHAR, 1, 0, MPI_COMM_WORLD);
    } else {
        MPI_Recv(data, size, MPI_CHAR, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        printf("got %d\n", data[size - 1]);
    }
    MPI_Finalize();
    return 0;
}
"""


@pytest.fixture
def crash(tmp_path: Path, program: Callable[[str], Path]) -> Path:
    """The source of a program, beside which it can be compiled."""
    program("gcc")
    (tmp_path / "crash.c").write_text(CRASH)
    return tmp_path / "crash"


def test_gcc_and_gdb(attacker: Attacker, crash: Path, program: Callable[[str], Path]) -> None:
    """A program is compiled, run under gdb to a breakpoint, and gdb attaches to one that runs."""
    gdb = program("gdb")
    script = f"""
        set -e
        gcc -g -o /tmp/crash {crash}.c
        /tmp/crash
        {gdb} -q -batch -ex 'break answer' -ex run -ex 'print question' /tmp/crash
        /tmp/crash wait & sleep 0.2
        {gdb} -q -batch -p $! -ex 'print 1+1'
        kill $!
        """
    done = attacker.run(["sh", "-c", script])
    assert "42\n" == done.stdout[:3], done.stderr
    assert "$1 = 41" in done.stdout
    assert "$1 = 2" in done.stdout


def test_strace(attacker: Attacker, program: Callable[[str], Path]) -> None:
    """strace follows a program and its children."""
    done = attacker.run([str(program("strace")), "-f", "-e", "trace=execve", "sh", "-c", "cat /dev/null; true"])
    assert (0, 1) == (done.returncode, done.stderr.count('"cat"')), done.stderr


def test_leak_sanitizer(attacker: Attacker, tmp_path: Path, program: Callable[[str], Path]) -> None:
    """LeakSanitizer, which traces its own process, finds a leak."""
    program("gcc")
    (tmp_path / "leak.c").write_text(LEAK)
    done = attacker.run(["sh", "-c", f"gcc -fsanitize=address -o /tmp/leak {tmp_path}/leak.c && /tmp/leak"])
    assert "detected memory leaks" in done.stderr, done.stderr
    assert "123 byte" in done.stderr


def test_python(attacker: Attacker) -> None:
    """Threads, processes, semaphores and asyncio's child watchers."""
    script = """
        import asyncio, multiprocessing, threading
        threads = [threading.Thread(target=lambda: print("thread", flush=True)) for _ in range(3)]
        for thread in threads:
            thread.start(); thread.join()
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(sum(pool.map(abs, range(-5, 0))))
        async def main():
            process = await asyncio.create_subprocess_exec("true")
            print(await process.wait())
        asyncio.run(main())
        """
    assert ["thread"] * 3 + ["15", "0"] == attacker(script)


@pytest.mark.long
def test_node(sb: Sandboxes, program: Callable[[str], Path]) -> None:
    """Node reads files in its threads, which would take io_uring if it were there, and starts processes."""
    script = (
        "require('fs').promises.readFile('/etc/hostname').then(data => "
        "console.log(data.length, require('child_process').execSync('echo child').toString().trim()))"
    )
    done = sb("-q", "--", str(program("node")), "-e", script)
    assert "13 child\n" == done.stdout, done.stderr


@pytest.mark.long
def test_java(sb: Sandboxes, tmp_path: Path, program: Callable[[str], Path]) -> None:
    """Java compiles and runs a source, with threads."""
    source = (
        "public class Hello { public static void main(String[] words) throws Exception {"
        ' Thread thread = new Thread(() -> System.out.println("hello")); thread.start(); thread.join(); } }'
    )
    (tmp_path / "Hello.java").write_text(source)
    done = sb("-q", "--", str(program("java")), str(tmp_path / "Hello.java"))
    assert "hello\n" == done.stdout, done.stderr


@pytest.mark.long
def test_go(sb: Sandboxes, tmp_path: Path, program: Callable[[str], Path]) -> None:
    """Go compiles and runs a program with goroutines."""
    (tmp_path / "hello.go").write_text(
        'package main\nimport "fmt"\nfunc main() { c := make(chan int); go func() { c <- 7 }(); fmt.Println(<-c) }\n'
    )
    done = sb("-q", "-e", "HOME=/tmp", "--", str(program("go")), "run", str(tmp_path / "hello.go"))
    assert "7\n" == done.stdout, done.stderr


@pytest.mark.long
def test_rust(sb: Sandboxes, tmp_path: Path, program: Callable[[str], Path]) -> None:
    """rustc compiles and links a program with a thread."""
    (tmp_path / "hello.rs").write_text(
        'fn main() { let t = std::thread::spawn(|| println!("hello")); t.join().unwrap(); }\n'
    )
    script = f"{program('rustc')} -o /tmp/hello {tmp_path}/hello.rs && /tmp/hello"
    assert "hello\n" == (done := sb("-q", "--", "sh", "-c", script)).stdout, done.stderr


@pytest.mark.long
def test_a_browser_with_nested(sb: Sandboxes, program: Callable[[str], Path]) -> None:
    """Chromium renders a page in its own sandbox, inside ours; without --nested its sandbox can't be made."""
    chromium = str(program("chromium"))
    page = "data:text/html,<body><script>document.write(6*7)</script></body>"
    command = (chromium, "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom", page)
    done = sb("-q", "--nested", "--userns=keep-id", "-e", "HOME=/tmp", "--", *command)
    assert "42" in done.stdout, done.stderr
    assert "42" not in sb("-q", "--userns=keep-id", "-e", "HOME=/tmp", "--", *command).stdout


@pytest.mark.long
def test_mpi(sb: Sandboxes, tmp_path: Path, program: Callable[[str], Path]) -> None:
    """Two ranks on one node pass a megabyte, by process_vm_readv or shared memory, as they do outside."""
    program("mpirun")
    (tmp_path / "mpi.c").write_text(MPI)
    script = f"mpicc -o /tmp/mpi {tmp_path}/mpi.c && mpirun -n 2 --oversubscribe /tmp/mpi"
    done = sb("-q", "--userns=keep-id", "--", "sh", "-c", script)
    assert "got 7\n" == done.stdout, done.stderr


