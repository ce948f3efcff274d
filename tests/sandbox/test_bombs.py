"""Bombs: each ends in the sandbox's limit, while a second sandbox, and so the host, goes on working.

How well is measured by that second sandbox: it starts programs, writes and reads files, and says after each round how
long it took. While a bomb goes off the rounds may take longer, for the processors are shared, but not without end.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.running import PATIENCE, eventually, stdout_until, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Count
    from tests.sandbox.running import Sandboxes

ROUNDS = 5
SLOWER = 40  # times that a round may take while a bomb goes off: many tasks have their share of the processors
WORK = """
import os, subprocess, sys, time
for line in sys.stdin:
    begin = time.monotonic()
    for number in range(5):
        subprocess.run(["true"], check=True)
        with open(f"/tmp/work-{number}", "w") as file:
            file.write("x" * 100_000)
        assert 100_000 == len(open(f"/tmp/work-{number}").read())
        os.unlink(f"/tmp/work-{number}")
    print(time.monotonic() - begin, flush=True)
"""


class Bystander:
    """A sandbox that works while others don't."""

    def __init__(self, sb: Sandboxes) -> None:
        self._run = sb.start("--", sys.executable, "-I", "-c", WORK)
        self._usual = self._round_time()

    def _round_time(self) -> float:
        taken = []
        for _ in range(ROUNDS):
            tell(self._run, "go\n")
            taken.append(float(stdout_until(self._run, b"\n")))
        return statistics.median(taken)

    def works(self) -> None:
        """Have it work some rounds: they don't take without end."""
        assert self._round_time() < SLOWER * self._usual

    def end(self) -> None:
        """Have it end, well."""
        self._run.communicate(timeout=PATIENCE)
        assert 0 == self._run.returncode


@pytest.fixture
def bystander(sb: Sandboxes) -> Iterator[Bystander]:
    """A second sandbox, which has worked before the bomb goes off and still does afterwards."""
    other = Bystander(sb)
    yield other
    other.works()
    other.end()


@pytest.fixture
def bomb(sb: Sandboxes, bystander: Bystander) -> Callable[..., str]:
    """`bomb(SCRIPT, OPTION…)`: run a script of Python's until it writes a line, which is what it has come to, and have
    the bystander work while it goes on; then end it.
    """

    def explode(script: str, *options: str) -> str:
        run = sb.start(*options, "--", sys.executable, "-I", "-c", textwrap.dedent(script))
        line = stdout_until(run, b"\n").decode()
        bystander.works()
        assert run.poll() is None
        run.kill()
        run.communicate(timeout=PATIENCE)
        eventually(lambda: len(list(sb.layers.iterdir())) == 1)  # the bystander's
        return line.strip()

    return explode


@pytest.mark.usefixtures("subordinate_ids")
def test_fork(bomb: Callable[..., str], count: Count) -> None:
    """Processes that fork as fast as they can, as different users: together they get no more than the limit."""
    most = count(100, 400)
    script = f"""
    import os, sys, time
    most, users, reader, writer = {most}, 3, *os.pipe()
    for uid in range(users):
        if os.fork() == 0:
            os.setgid(1000 + uid)
            os.setuid(1000 + uid)
            while True:
                try:
                    if os.fork() == 0:
                        os.write(writer, b"x")
                except BlockingIOError:
                    pass
    seen = 0
    while seen < most * 3 // 4:
        seen += len(os.read(reader, 4096))
    time.sleep(0.5)
    print(len([name for name in os.listdir("/proc") if name.isdecimal()]), flush=True)
    time.sleep(1000)
    """
    assert most // 2 < int(bomb(script, "--pids-limit", str(most))) <= most + 2


def test_threads(bomb: Callable[..., str], count: Count) -> None:
    """Threads that each start another count as processes do."""
    most = count(100, 400)
    script = """
    import os, threading, time
    def spin():
        while True:
            try:
                threading.Thread(target=spin, daemon=True).start()
            except RuntimeError:
                time.sleep(0.01)
            if len(os.listdir("/proc/self/task")) >= MOST - 5:
                told.set()
            time.sleep(0.001)
    told = threading.Event()
    threading.Thread(target=spin, daemon=True).start()
    told.wait()
    time.sleep(0.5)
    print(len(os.listdir("/proc/self/task")), flush=True)
    time.sleep(1000)
    """
    script = script.replace("MOST", str(most))
    assert most - 5 <= int(bomb(script, "--pids-limit", str(most))) <= most


def test_zombies(bomb: Callable[..., str], count: Count) -> None:
    """Children that nobody waits for count, though they have ended."""
    most = count(100, 4000)
    script = """
    import os, time
    zombies = 0
    try:
        while True:
            if os.fork() == 0:
                os._exit(0)
            zombies += 1
    except BlockingIOError:
        print(zombies, flush=True)
    time.sleep(1000)
    """
    assert most - 5 <= int(bomb(script, "--pids-limit", str(most))) <= most


def test_descriptors(bomb: Callable[..., str], count: Count) -> None:
    """Each process has its limit of open files, and processes the limit of their number: so many files, no more."""
    most, processes = count(200, 1000), count(20, 200)
    script = f"""
    import errno, os, time
    reader, writer = os.pipe()
    children = 0
    for number in range({processes}):
        try:
            child = os.fork()
        except BlockingIOError:
            break
        if child == 0:
            opened = 0
            try:
                while True:
                    os.open("/etc/passwd" if number % 2 else "/tmp/own-%d" % opened, os.O_RDWR | os.O_CREAT, 0o600)
                    opened += 1
            except OSError as error:
                os.write(writer, b"%d %s\\n" % (opened, errno.errorcode[error.errno].encode()))
            time.sleep(1000)
        children += 1
    told = b""
    while told.count(b"\\n") < children:
        told += os.read(reader, 65536)
    lines = told.decode().splitlines()
    print(children, max(int(line.split()[0]) for line in lines), *{{line.split()[1] for line in lines}}, flush=True)
    time.sleep(1000)
    """
    children, opened, error = bomb(script, "--ulimit", f"nofile={most}").split(maxsplit=2)
    assert (processes, "EMFILE") == (int(children), error)
    assert most - 10 < int(opened) < most


def test_inotify(bomb: Callable[..., str], sb: Sandboxes) -> None:
    """Watches of files are the user's, and half of them are left for others."""
    script = """
    import ctypes, os, time
    libc = ctypes.CDLL(None)
    instances = 0
    while libc.inotify_init() >= 0:
        instances += 1
    print(instances, flush=True)
    time.sleep(1000)
    """
    use = "import ctypes; print(ctypes.CDLL(None).inotify_init() >= 0)"
    with open("/proc/sys/user/max_inotify_instances", encoding="ascii") as file:
        most = int(file.read())
    run = sb.start("--", sys.executable, "-I", "-c", textwrap.dedent(script))
    assert most // 4 < int(stdout_until(run, b"\n")) <= most // 2
    assert "True\n" == subprocess.run([sys.executable, "-c", use], capture_output=True, text=True, check=True).stdout
    assert "True\n" == sb.command("run", "--", sys.executable, "-c", use).stdout
    run.kill()
    run.communicate(timeout=PATIENCE)
    assert int(bomb(script)) <= most // 2


def test_terminals(bomb: Callable[..., str]) -> None:
    """A sandbox has a number of terminals of its own, and others go on getting some."""
    script = """
    import os, time
    opened = 0
    try:
        while True:
            os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
            opened += 1
    except OSError:
        print(opened, flush=True)
    time.sleep(1000)
    """
    assert int(bomb(script, "--ulimit", "nofile=20000")) <= 1024


def test_memory(sb: Sandboxes, bystander: Bystander, count: Count) -> None:
    """Processes that eat memory side by side are ended together."""
    most = count(200, 2000)
    script = f"""
    import os
    for _ in range(4):
        if os.fork() == 0:
            eaten = []
            while True:
                eaten.append(bytearray({most} * 5_000))
    os.wait()
    """
    run = sb.start("--memory", f"{most}m", "--", sys.executable, "-I", "-c", textwrap.dedent(script))
    bystander.works()
    _, errors = run.communicate(timeout=PATIENCE)
    assert (137, True) == (run.returncode, b"more than its limit of memory" in errors)


FILLING = {
    "shared memory": ("head -c {} /dev/zero >/dev/shm/x", ()),
    "tmpfs": ("head -c {} /dev/zero >/scratch/x", ("--tmpfs", "/scratch:mode=1777")),
    "renamed": ("mv /tmp/a /tmp/b; head -c {} /dev/zero >/tmp/b/c/x", ("--tmpfs", "/tmp/a/c")),
    "dev": ("for n in 1 2 3; do head -c 60M /dev/zero >/dev/x; done", ("--memory", "50m")),
    "memfd": (
        "python3 -c \"import os, time; fd = os.memfd_create('x')\n"
        "for _ in range({} // 1048576): os.write(fd, bytes(1048576))\ntime.sleep(2)\"",
        (),
    ),
    "segments": (
        'python3 -c "import ctypes; c = ctypes.CDLL(None); c.shmat.restype = ctypes.c_void_p\n'
        "for _ in range({} // 1048576):\n"
        " s = c.shmget(0, 1048576, 0o1600); p = c.shmat(s, None, 0); ctypes.memset(ctypes.c_void_p(p), 1, 1048576)\n"
        ' c.shmdt(ctypes.c_void_p(p))"',
        (),
    ),
}


@pytest.mark.parametrize("name", FILLING)
def test_files_in_memory(sb: Sandboxes, name: str) -> None:
    """What lies in the sandbox's file systems in memory and shared memory counts, mapped or not; below the limit it may
    lie there.
    """
    script, options = FILLING[name]
    ended = sb("-q", "--memory", "100m", *options, "--", "sh", "-c", f"{script.format(200 << 20)}; sleep 1000")
    assert 137 == ended.returncode, ended.stderr
    enough = [word.replace("50m", "500m") for word in options]
    done = sb("-q", "--memory", "500m", *enough, "--", "sh", "-c", f"{script.format(20 << 20)}; sleep 1; echo done")
    assert "done\n" == done.stdout, done.stderr


def test_disk(bomb: Callable[..., str], count: Count) -> None:
    """Data is refused beyond the limit, in one large file and in many small ones."""
    most = count(20, 2000)
    script = """
    import errno, os, time
    def fill(path, size):
        try:
            with open(path, "wb", 0) as file:
                while file.write(bytes(size)):
                    os.fsync(file.fileno())
        except OSError as error:
            return errno.errorcode[error.errno]
    found = [fill("/tmp/large", 1 << 20)]
    number = 0
    while len(found) < 2:
        try:
            with open(f"/tmp/small-{number}", "wb", 0) as file:
                file.write(bytes(4096))
                os.fsync(file.fileno())
        except OSError as error:
            found.append(errno.errorcode[error.errno])
        number += 1
    used = sum(os.stat(f"/tmp/{name}").st_blocks for name in os.listdir("/tmp") if name[:5] in ("large", "small"))
    print(used * 512 >> 20, *found, flush=True)
    time.sleep(1000)
    """
    used, large, small = bomb(script, "--disk", f"{most}m").split()
    assert ("EDQUOT", "EDQUOT") == (large, small)
    assert most - 5 < int(used) <= most


def test_inodes(bomb: Callable[..., str], count: Count) -> None:
    """Files and directories are refused beyond the limit of their number."""
    most = count(200, 20000)
    script = """
    import errno, os, tempfile, time
    os.chdir(tempfile.mkdtemp())
    number = 0
    try:
        while True:
            os.mkdir(f"d{number}") if number % 2 else open(f"f{number}", "w").close()
            number += 1
    except OSError as error:
        print(number, errno.errorcode[error.errno], flush=True)
    time.sleep(1000)
    """
    number, error = bomb(script, "--inodes", str(most)).split()
    assert "EDQUOT" == error
    assert most - 10 < int(number) <= most


def test_a_flood_on_stdout(sb: Sandboxes, bystander: Bystander) -> None:
    """Whoever reads too slowly holds the writer, and what waits doesn't pile up in sb."""
    run = sb.start("--", "yes")
    stdout_until(run, b"y\n")
    bystander.works()
    with open(f"/proc/{run.pid}/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1])
    assert resident * 4096 < 100_000_000
    run.kill()
    run.communicate(timeout=PATIENCE)


def test_storms_against_the_overlay_server(bomb: Callable[..., str], count: Count) -> None:
    """Clients that are stopped and killed in the middle of their requests, and many open files, keep nobody from the
    files of the same sandbox.
    """
    clients, rounds = count(20, 60), count(10, 40)
    script = f"""
    import os, signal, subprocess, time
    def hammer(number):
        held = []
        while True:
            path = f"/tmp/storm-{{number}}"
            with open(path, "wb") as file:
                file.write(b"x" * 200_000)
            os.rename(path, path + "-moved")
            try:
                held.append(os.open(path + "-moved", os.O_RDONLY))
            except OSError:
                held.clear()
                os.closerange(3, 100_000)
    children = []
    for number in range({clients}):
        child = os.fork()
        if child == 0:
            hammer(number)
        children.append(child)
    for _ in range({rounds}):
        for signal_ in (signal.SIGSTOP, signal.SIGCONT):
            for child in children:
                os.kill(child, signal_)
            subprocess.run(["ls", "-l", "/tmp"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for child in children[::2]:
        os.kill(child, signal.SIGKILL)
    for child in children[1::2]:
        os.kill(child, signal.SIGSTOP)
    open("/tmp/after", "w").write("well")
    print(open("/tmp/after").read(), flush=True)
    time.sleep(1000)
    """
    assert "well" == bomb(script, "--ulimit", "nofile=500")
