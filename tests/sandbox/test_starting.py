"""Sandboxes that are started again, stopped and killed from outside."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.running import PATIENCE, eventually, stdout_until

if TYPE_CHECKING:
    import subprocess

    from tests.sandbox.running import Sandboxes


def state(sb: Sandboxes, name: str) -> tuple[str, int | None]:
    """Status and exit code of a sandbox."""
    (found,) = json.loads(sb.command("inspect", name).stdout)["sandboxes"]
    return found["status"], found["exit_code"]


def running(sb: Sandboxes, script: str) -> subprocess.Popen[bytes]:
    """A sandbox with the name `box` whose command is a shell script that has said `ready`."""
    run = sb.start("--name", "box", "--", "sh", "-c", script)
    stdout_until(run, b"ready\n")
    eventually(lambda: ("running", None) == state(sb, "box"))
    return run


def test_a_sandbox_starts_again_where_it_was(sb: Sandboxes) -> None:
    """`start` and `exec` in one that has ended see what earlier runs left, with its variables and its directory."""
    sb("--name", "box", "-e", "A=b", "-w", "/tmp", "--", "sh", "-c", "echo $A >>log; cat log; pwd")
    assert "b\nb\n/tmp\n" == sb.command("start", "-a", "box").stdout
    assert "b c /tmp\n" == sb.command("exec", "-e", "C=c", "box", "sh", "-c", "echo $A $C $PWD").stdout
    assert 4 == sb.command("start", "-a", "box", "sh", "-c", "rm log; exit 4").returncode
    assert ("exited", 4) == state(sb, "box")
    assert "b\n/tmp\n" == sb.command("start", "-a", "box").stdout
    assert 127 == sb.command("start", "-a", "box", "no-such-program").returncode
    assert "exited" == state(sb, "box")[0]


def test_a_running_one_does_not_start_twice(sb: Sandboxes) -> None:
    """The second `start` is told who has it."""
    run = running(sb, "echo ready; read line")
    refused = sb.command("start", "-a", "box")
    assert 125 == refused.returncode
    assert "hint: sb exec box" in refused.stderr
    run.communicate(timeout=PATIENCE)


def test_stop_asks_and_then_kills(sb: Sandboxes) -> None:
    """SIGTERM first, whose answer counts; SIGKILL after the grace. Who waits for the command gets its status."""
    run = running(sb, "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    assert "box\n" == sb.command("stop", "box").stdout
    assert 3 == run.wait(PATIENCE)
    assert ("exited", 3) == state(sb, "box")
    sb.command("rm", "box")
    run = running(sb, "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    assert "box\n" == sb.command("stop", "-t", "0.3", "box").stdout
    assert 137 == run.wait(PATIENCE)
    assert ("exited", 137) == state(sb, "box")
    assert "box\n" == sb.command("stop", "box").stdout


def test_kill_sends_any_signal(sb: Sandboxes) -> None:
    """`kill -s` reaches the command; an unknown signal names the nearest."""
    run = running(sb, "trap 'echo usr; exit 0' USR2; echo ready; while :; do sleep 0.05; done")
    assert "did you mean USR2?" in sb.command("kill", "-s", "USR22", "box").stderr
    assert 0 == sb.command("kill", "-s", "SIGUSR2", "box").returncode
    assert b"usr\n" == run.communicate(timeout=PATIENCE)[0]
    assert 125 == sb.command("kill", "box").returncode


def test_rm_refuses_a_running_one_unless_forced(sb: Sandboxes) -> None:
    """`rm` of a running sandbox is 125 with the hint, `rm -f` ends it."""
    run = running(sb, "echo ready; sleep 1000")
    refused = sb.command("rm", "box")
    assert 125 == refused.returncode
    assert "hint: sb rm -f box" in refused.stderr
    assert "box\n" == sb.command("rm", "-f", "box").stdout
    assert 137 == run.wait(PATIENCE)
    assert 125 == sb.command("inspect", "box").returncode


def test_a_lost_one_starts_again(sb: Sandboxes) -> None:
    """A sandbox whose supervisor was killed is lost, and starts again with what had reached its layer."""
    run = running(sb, "echo kept >/etc/kept; sync; echo ready; sleep 1000")
    run.kill()
    run.wait()
    eventually(lambda: "lost" == state(sb, "box")[0])
    time.sleep(0.1)
    assert "kept\n" == sb.command("start", "-a", "box", "cat", "/etc/kept").stdout


@pytest.mark.parametrize("point", ["stop-asked", "stop-forced"])
def test_killed_at_any_step_of_a_stop(sb: Sandboxes, point: str) -> None:
    """A `stop` that was cut short can be said again."""
    run = running(sb, "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    assert -signal.SIGKILL == sb.command("stop", "-t", "0.1", "box", fault=point).returncode
    assert 0 == sb.command("stop", "-t", "0.1", "box").returncode
    assert 137 == run.wait(PATIENCE)
    assert ("exited", 137) == state(sb, "box")
