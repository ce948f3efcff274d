"""Ending sandboxes that don't answer, or whose state is damaged."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.sandbox.running import eventually, listed, stdout_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


def test_a_first_process_that_is_stopped(sb: Sandboxes) -> None:
    """`sb kill` says that it doesn't answer, instead of waiting for it; when it goes on, the signal arrives."""
    run = sb.start("--name", "box", "--", "sh", "-c", "echo ready; sleep 1000")
    stdout_until(run, b"ready")
    (box,) = listed(sb)
    os.kill(box["pid"], signal.SIGSTOP)
    refused = sb.command("kill", "box")
    assert (125, True) == (refused.returncode, "cannot reach box: its first process doesn't answer" in refused.stderr)
    assert run.poll() is None
    os.kill(box["pid"], signal.SIGCONT)
    assert 137 == run.wait(60)


def test_a_state_that_is_damaged_while_it_runs(sb: Sandboxes, tmp_path: Path) -> None:
    """The end says in a line what can't be read, and what was to be kept is still there."""
    run = sb.start("--name", "box", "--", "sh", "-c", f"echo changed >{tmp_path}/new; echo ready; read x")
    stdout_until(run, b"ready")
    eventually(lambda: listed(sb)[0]["status"] == "running")  # that it runs is noted when it does already
    (directory,) = (sb.layers.parent / "data/sb/sandboxes").glob("[0-9a-f]*")
    (directory / "state").write_bytes(b"\xff no state")
    output, errors = run.communicate(b"\n", timeout=60)
    assert (125, b"") == (run.returncode, output.replace(b"\n", b""))
    assert b"cannot decide whether the sandbox is kept: " in errors
    assert b"Traceback" not in errors
    assert [] == [line for line in errors.splitlines() if b"internal" in line]
    assert (directory / "upper").is_dir()
