"""Whichever of sb's processes is killed, nothing is left of the sandbox."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.sandbox import processes
from tests.sandbox.running import eventually, stdout_until

if TYPE_CHECKING:
    from tests.conftest import Count
    from tests.sandbox.running import Sandboxes

# What the commands say of the blow isn't sb's.
IDLE = "exec 2>/dev/null; echo ready; exec sleep 1000"
# Several processes that read and write without pause when it falls.
BUSY = """
    exec 2>/dev/null
    for each in 1 2 3; do
        (while :; do find / -xdev >/dev/null; done) &
        (while :; do cp -r /etc /tmp/copy$each; rm -rf /tmp/copy$each; done) &
    done
    sleep 0.5; echo ready; wait
    """


def below(process: subprocess.Popen[bytes], title: str) -> int:
    """The pid of the process below `sb run` that has this title; before exec the command has that of its parent."""
    return next(each.pid for each in processes.descendants(process.pid) if each.name == title)


@pytest.mark.parametrize("script", [IDLE, BUSY], ids=["idle", "busy"])
@pytest.mark.parametrize("title", ["sb-overlay", "sb-watch", "sb-init"])
def test_a_helper_is_killed(sb: Sandboxes, title: str, script: str) -> None:
    """`sb run` says in one line what happened, with a hint, exits with 125, and nothing is left."""
    process = sb.start("-q", "sh", "-c", script)
    stdout_until(process, b"ready\n")
    os.kill(below(process, title), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert 125 == process.returncode
    line = r"sb: the sandbox was ended: [^\n]+\n\nhint: [^\n]+\n"
    assert re.fullmatch(line, errors.decode()), errors.decode()
    assert [] == sb.left_behind(within=2.0)


@pytest.mark.parametrize("script", [IDLE, BUSY], ids=["idle", "busy"])
def test_the_supervisor_is_killed(sb: Sandboxes, script: str) -> None:
    """SIGKILL of `sb run` itself takes everything along."""
    process = sb.start("sh", "-c", script)
    stdout_until(process, b"ready\n")
    inside = {each.pid for each in processes.descendants(process.pid)}
    assert len(inside) >= 4
    process.kill()
    process.wait()
    assert [] == sb.left_behind(within=2.0)
    assert [] == [pid for pid in inside if processes.look(pid) is not None]


def test_the_supervisor_is_killed_while_it_starts(sb: Sandboxes, count: Count) -> None:
    """At whichever moment of the start SIGKILL comes, nothing is left."""
    for _ in range(count(40, 400)):
        process = sb.start("true")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(random.uniform(0.02, 0.15))
        process.kill()
        assert [] == sb.left_behind(within=2.0)


@pytest.mark.parametrize("title", ["sb-overlay", "sb-watch", "sb-init"])
def test_a_helper_is_killed_while_it_starts(sb: Sandboxes, title: str) -> None:
    """When a helper dies as soon as it is there, `sb run` says in one line what happened, and exits with 125."""
    process = sb.start("-q", "sleep", "1000")
    eventually(lambda: any(each.name == title for each in processes.descendants(process.pid)))
    os.kill(below(process, title), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert 125 == process.returncode
    assert 1 == errors.count(b"sb: ")
    assert b"Traceback" not in errors
    assert [] == sb.left_behind(within=2.0)
