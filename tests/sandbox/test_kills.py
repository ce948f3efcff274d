"""SIGKILL at random moments: whoever dies, nothing is left, and what survives says what happened."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.sandbox import processes
from tests.sandbox.running import PATIENCE, eventually

if TYPE_CHECKING:
    import subprocess

    from tests.conftest import Count
    from tests.sandbox.running import Sandboxes

# Keeps the overlay busy: new files, directories, and dirty pages of a shared mapping.
WORK = """
import itertools, mmap, os
os.chdir("/tmp")
for number in itertools.count():
    with open(f"file{number % 7}", "w+b") as file:
        file.truncate(1 << 20)
        memory = mmap.mmap(file.fileno(), 1 << 20)
        memory[:] = bytes([number % 256]) * (1 << 20)
    if number % 3 == 0:
        os.mkdir(f"directory{number}")
"""


def find(run: subprocess.Popen[bytes], name: str) -> int:
    """The pid of one of sb's own processes below a run; "sb" is the supervisor itself."""
    if name == "sb":
        return run.pid
    eventually(lambda: _named(run, name))
    return _named(run, name)[0]


def _named(run: subprocess.Popen[bytes], name: str) -> list[int]:
    return [each.pid for each in processes.descendants(run.pid) if each.name == name]


@pytest.mark.parametrize(
    ("victim", "number"),
    [
        ("sb", signal.SIGKILL),
        ("sb-overlay", signal.SIGKILL),
        ("sb-overlay", signal.SIGSTOP),
        ("sb-watch", signal.SIGKILL),
        ("sb-init", signal.SIGKILL),
    ],
)
def test_whoever_dies_nothing_is_left(sb: Sandboxes, count: Count, victim: str, number: signal.Signals) -> None:
    """A killed (or stopped) process of sb's takes the whole sandbox with it within two seconds."""
    for _ in range(count(4, 40)):
        run = sb.start("--", "python3", "-c", WORK)
        pid = find(run, victim)
        time.sleep(random.uniform(0.0, 0.5))
        os.kill(pid, number)
        errors = run.communicate(timeout=PATIENCE)[1].decode()
        assert [] == sb.left_behind(within=2.0)
        if victim == "sb":
            assert -signal.SIGKILL == run.returncode
        else:
            assert 125 == run.returncode, errors
            assert "sb: the sandbox was ended: its " in errors


def test_the_parents_death_is_the_sandboxs(sb: Sandboxes) -> None:
    """When the process that started sb is killed, the sandbox ends."""
    shell = sb.start_shell('"$0" run -- sleep 1000; true')
    eventually(lambda: [each for each in processes.descendants(shell.pid) if each.name == "sleep"])
    shell.kill()
    shell.wait()
    assert [] == sb.left_behind(within=2.0)


def test_under_nohup_the_sandbox_outlives_its_parent(sb: Sandboxes) -> None:
    """Who ignores SIGHUP asks to be left running, and is."""
    shell = sb.start_shell('trap "" HUP; "$0" run -- sleep 1; true')
    eventually(lambda: [each for each in processes.descendants(shell.pid) if each.name == "sleep"])
    shell.kill()
    shell.wait()
    assert [] != sb.left_behind(within=0.2)
    assert [] == sb.left_behind(within=PATIENCE)


def test_a_stubborn_command_is_ended_by_the_second_signal(sb: Sandboxes) -> None:
    """SIGTERM reaches a command that ignores it; the second one ends the sandbox."""
    run = sb.start("--", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    assert run.stdout is not None
    assert b"ready\n" == run.stdout.readline()
    run.terminate()
    time.sleep(0.3)
    assert None is run.poll()
    run.terminate()
    assert 125 == run.wait(timeout=PATIENCE)
    assert [] == sb.left_behind(within=2.0)


def test_a_stopped_watcher_is_overcome(sb: Sandboxes) -> None:
    """A watcher that somebody has stopped can't keep a sandbox from ending."""
    run = sb.start("--", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    assert run.stdout is not None
    assert b"ready\n" == run.stdout.readline()
    os.kill(find(run, "sb-watch"), signal.SIGSTOP)
    run.terminate()
    time.sleep(0.2)
    run.terminate()
    assert b"sb: the sandbox was ended: as it was asked to\n" in run.communicate(timeout=PATIENCE)[1]
    assert 125 == run.returncode
    assert [] == sb.left_behind(within=2.0)
