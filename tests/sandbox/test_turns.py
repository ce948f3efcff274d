"""A sandbox in which very many processes want to run at once: they take turns, and others get to run."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from rootless_sb import host, limits, turns
from rootless_sb.spec import RunSpec
from tests.sandbox import processes
from tests.sandbox.running import PATIENCE, SB, eventually, stdout_until, tell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.conftest import Count
    from tests.sandbox.running import Sandboxes

MOST = limits.decide(RunSpec(), host.probe()).running  # that run at once and take no turns
ROUNDS = 5
# How much longer something may take beside a bomb than beside a busy process for each processor.
SLOWER = 8
# Starts programs, a number of times for each line that it reads, and says how long that took.
WORK = """
import os, sys, time
number, *command = sys.argv[1:]
for line in sys.stdin:
    begin = time.monotonic()
    for _ in range(int(number)):
        _, status = os.waitpid(os.posix_spawn(command[0], command, os.environ), 0)
        assert status == 0
    print(time.monotonic() - begin, flush=True)
"""
# Processes that fork as fast as they can, as three users, each in a session of its own; some live for a moment only.
BOMB = """
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for uid in range(3):
    if os.fork() == 0:
        os.setgid(1000 + uid)
        os.setuid(1000 + uid)
        break
while True:
    try:
        if os.fork() == 0:
            os.setsid()
            if os.getpid() % 4 == 0:
                os._exit(0)
    except BlockingIOError:
        pass
"""
# So many busy processes, in sessions of their own, until stdin ends.
CROWD = """
import os, select, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
reader, writer = os.pipe()
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        os.close(writer)
        os.setsid()
        os.read(reader, 1)
        while not select.select([0], [], [], 0)[0]:
            pass
        os._exit(0)
os.close(writer)
for _ in range(int(sys.argv[1])):
    os.wait()
print("alone", flush=True)
signal.pause()
"""
# So many processes in sessions of their own that sleep until a line comes; then each is busy, in threads if it has any.
SLEEPERS = """
import os, select, signal, sys, threading
reader, writer = os.pipe()
woken, awake = os.pipe()
def wait():
    select.select([woken], [], [])
    while True:
        pass
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        os.setsid()
        for _ in range(int(sys.argv[2])):
            threading.Thread(target=wait).start()
        os.write(writer, b"x")
        if int(sys.argv[2]):
            signal.pause()
        wait()
for _ in range(int(sys.argv[1])):
    os.read(reader, 1)
print("asleep", flush=True)
sys.stdin.readline()
os.write(awake, b"x")
signal.pause()
"""
# So many busy processes, all in one session, so that they have one share.
FAMILY = """
import ctypes, os, signal, sys
for _ in range(int(sys.argv[1]) - 1):
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        break
while True:
    pass
"""
LOOKS = 40  # in tenths of a second
BUSY = "while True: pass"


class Worker(NamedTuple):
    """What is done on the host, in a session of its own as another terminal's programs are."""

    process: subprocess.Popen[bytes]

    def round_time(self) -> float:
        """How long it takes."""
        taken = []
        for _ in range(ROUNDS):
            tell(self.process, "go\n")
            taken.append(float(stdout_until(self.process, b"\n")))
        return statistics.median(taken)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """What is killed at the test's end."""
    found: list[subprocess.Popen[bytes]] = []
    yield found
    for process in found:
        process.kill()
        process.communicate()


def works(sb: Sandboxes, started: list[subprocess.Popen[bytes]], number: int, command: Sequence[str]) -> Worker:
    """A worker who starts this command so often."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", WORK, str(number), *command],
        bufsize=0,
        env=sb.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    sb.adopt(process)
    started.append(process)
    return Worker(process)


def takers(sb: subprocess.Popen[bytes]) -> list[processes.Process]:
    """Who has turns taken in this sandbox."""
    return [process for process in processes.descendants(sb.pid) if process.name == "sb-turns"]


@pytest.mark.usefixtures("subordinate_ids")
def test_the_host_and_a_second_sandbox_go_on(
    sb: Sandboxes, started: list[subprocess.Popen[bytes]], count: Count
) -> None:
    """Beside a bomb the host starts programs, and sandboxes, nearly as fast as beside a busy process for each
    processor. Beside one that is too small for turns, it doesn't: that is what they are for.
    """
    programs, second = works(sb, started, 10, ["/bin/true"]), works(sb, started, 1, [str(SB), "run", "-q", "true"])
    workers = (programs, second)
    busy = [subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True) for _ in os.sched_getaffinity(0)]
    for process in busy:
        sb.adopt(process)
    usual = [worker.round_time() for worker in workers]
    for process in busy:
        process.kill()
        process.wait()

    bomb = ("--", sys.executable, "-I", "-c", BOMB)
    small = sb.start("--pids-limit", str(MOST), *bomb)
    # A process has a share of its own once it has run for the first time.
    eventually(lambda: len({each.session for each in processes.descendants(small.pid)}) > MOST // 2)
    beside_small = programs.round_time()
    assert [] == takers(small)
    small.kill()
    small.communicate(timeout=PATIENCE)

    large = sb.start("--pids-limit", str(count(2 * MOST, max(4096, MOST))), *bomb)
    eventually(lambda: takers(large))
    beside = [worker.round_time() for worker in workers]
    assert large.poll() is None
    large.kill()
    large.communicate(timeout=PATIENCE)
    print("beside the busy, the small bomb, the large one:", usual, beside_small, beside)
    assert all(time < SLOWER * before for time, before in zip(beside, usual, strict=True)), (usual, beside)
    assert beside_small > SLOWER * usual[0], (usual, beside_small)


def test_turns_have_an_end(sb: Sandboxes) -> None:
    """Once few want to run all go on at once; what had its turns ends as it would have. A sandbox beside it that is
    smaller has none taken.
    """
    reader, writer = os.pipe()
    command = ("--", sys.executable, "-I", "-c", CROWD)
    modest = sb.start(*command, str(MOST // 4))
    crowd = sb.start("--status-fd", str(writer), *command, str(MOST + 40), descriptors=[writer])
    os.close(writer)
    eventually(lambda: takers(crowd))
    assert [] == takers(modest)
    for run in (crowd, modest):
        assert run.stdin is not None
        run.stdin.close()
        run.stdin = None
        stdout_until(run, b"alone\n")
    eventually(lambda: not takers(crowd))
    for run in (crowd, modest):
        run.terminate()
        run.communicate(timeout=PATIENCE)
        assert 7 == run.returncode
    with open(reader, encoding="utf-8") as file:
        told = [json.loads(line) for line in file]
    assert ["started", "exited"] == [line["event"] for line in told]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_who_has_the_turns_taken_is_missed(sb: Sandboxes, number: int) -> None:
    """A sandbox that would stand still for ever is ended, and one that has stopped whoever sees to its turns. It isn't
    the command's doing.
    """
    crowd = sb.start("--", sys.executable, "-I", "-c", CROWD, str(MOST + 40))
    eventually(lambda: takers(crowd))
    (taker,) = takers(crowd)
    os.kill(taker.pid, number)
    _, told = crowd.communicate(timeout=PATIENCE)
    assert 125 == crowd.returncode
    how = {signal.SIGKILL: "was killed by SIGKILL", signal.SIGSTOP: "was stopped by SIGSTOP"}[signal.Signals(number)]
    assert f"sb-turns, which has its very many processes take turns, {how}" in told.decode()


def test_the_end_of_pid_1_is_not_that_of_the_turns(sb: Sandboxes) -> None:
    """Whoever has the turns taken dies with it, and isn't named."""
    crowd = sb.start("--", sys.executable, "-I", "-c", CROWD, str(MOST + 40))
    eventually(lambda: takers(crowd))
    (init,) = [process for process in processes.descendants(crowd.pid) if process.name == "sb-init"]
    os.kill(init.pid, signal.SIGKILL)
    _, told = crowd.communicate(timeout=PATIENCE)
    assert 125 == crowd.returncode
    assert "its pid 1 was killed by SIGKILL" in told.decode()


@pytest.mark.parametrize("threads", [0, 2])
def test_who_waits_is_left_alone(sb: Sandboxes, started: list[subprocess.Popen[bytes]], threads: int) -> None:
    """Very many sessions that want nothing take no turns, though the host has as much to do as it can; once all want to
    run they do, also those whose first thread sleeps.
    """
    crowd = sb.start("--", sys.executable, "-I", "-c", SLEEPERS, str(MOST + 40), str(threads))
    stdout_until(crowd, b"asleep\n")
    busy = subprocess.Popen([sys.executable, "-I", "-c", FAMILY, str(MOST + 40)], start_new_session=True)
    sb.adopt(busy)
    started.append(busy)
    eventually(lambda: turns.running(Path("/proc/loadavg").read_text()) > MOST)
    for _ in range(LOOKS):
        assert [] == takers(crowd)
        time.sleep(0.1)
    tell(crowd, "\n")
    eventually(lambda: takers(crowd))
    crowd.kill()
    crowd.communicate(timeout=PATIENCE)
