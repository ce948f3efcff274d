"""`--timeout`: a command that takes too long is asked to end, then ended."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.sandbox import processes
from tests.sandbox.running import PATIENCE, eventually, listed, stdout_until

if TYPE_CHECKING:
    from tests.sandbox.running import Sandboxes

_SAID = "sb: the command was ended: its time limit has passed\n"


def test_a_slow_command_is_ended(sb: Sandboxes) -> None:
    """The exit status is 124, and the reason is said."""
    ended = sb("--timeout", "0.5s", "--", "sleep", "1000")
    assert (124, _SAID) == (ended.returncode, ended.stderr)


def test_a_fast_one_is_not(sb: Sandboxes) -> None:
    """A command that ends in time keeps its own status."""
    assert 3 == sb("--timeout", "1h", "--", "sh", "-c", "exit 3").returncode


def test_the_command_may_tidy_up(sb: Sandboxes) -> None:
    """It gets SIGTERM first; that it then ends by itself doesn't change the status."""
    script = "trap 'echo tidy; exit 0' TERM; while :; do sleep 0.1; done"
    ended = sb("--timeout", "0.5s", "-q", "--", "sh", "-c", script)
    assert (124, "tidy\n", "") == (ended.returncode, ended.stdout, ended.stderr)


def test_a_kept_sandbox_knows_it(sb: Sandboxes) -> None:
    """The status is written down, and the limit holds when it is started again."""
    assert 124 == sb("--timeout", "0.5s", "--name", "box", "--", "sleep", "1000").returncode
    (found,) = listed(sb, "-a")
    assert 124 == found["exit_code"]
    assert 124 == sb.command("start", "-a", "box").returncode
    assert 124 == sb.command("exec", "--timeout", "0.5s", "box", "sleep", "1000").returncode
    assert 0 == sb.command("exec", "box", "sleep", "1").returncode


def test_a_command_that_stops_itself(sb: Sandboxes) -> None:
    """It doesn't stop its caller with it, so the limit counts on and holds."""
    ended = sb("--timeout", "1s", "--", "sh", "-c", "echo before; kill -STOP $$; echo after; exec sleep 1000")
    assert (124, _SAID) == (ended.returncode, ended.stderr)
    assert ended.stdout.startswith("before\n")


def test_a_stopped_supervisor(sb: Sandboxes) -> None:
    """When sb itself is stopped, nothing in the sandbox outlives the limit and its grace, and it says 124 later."""
    run = sb.start("--timeout", "0.5s", "--", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    stdout_until(run, b"ready\n")
    (init,) = [each for each in processes.descendants(run.pid) if each.name == "sb-init"]
    os.kill(run.pid, signal.SIGSTOP)
    eventually(lambda: init.pid not in [each.pid for each in processes.descendants(run.pid) if each.state != "Z"])
    os.kill(run.pid, signal.SIGCONT)
    assert 124 == run.wait(PATIENCE)


def test_exec_in_a_running_sandbox(sb: Sandboxes) -> None:
    """The limit is the command's: the sandbox goes on."""
    run = sb.start("--name", "box", "--rm", "--", "sh", "-c", "echo ready; read line")
    stdout_until(run, b"ready\n")
    eventually(lambda: "box" in sb.command("ps").stdout)
    ended = sb.command("exec", "--timeout", "0.5s", "box", "sleep", "1000")
    assert (124, _SAID) == (ended.returncode, ended.stderr)
    assert 5 == sb.command("exec", "--timeout", "1h", "box", "sh", "-c", "exit 5").returncode
    run.communicate(timeout=PATIENCE)


@pytest.mark.parametrize("text", ["", "0", "-1", "s", "1w", "nan", "1.2.3s", "\u0663s"])
def test_what_is_no_time(sb: Sandboxes, text: str) -> None:
    """One line, and a hint with an example; nothing runs."""
    ended = sb(f"--timeout={text}", "--", "true")
    assert (125, f"sb: not a time: {text}\n\nhint: a number above 0 and s, m, h or d: 30s\n") == (
        ended.returncode,
        ended.stderr,
    )
