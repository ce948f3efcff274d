"""`sb diff` and `sb apply` of very many changes."""

from __future__ import annotations

import os
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.running import SB

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.running import Sandboxes

MANY, IN_EACH = 100_000, 500
MINUTES = 20  # so that a hang is a failure
MEMORY = 1 << 20  # KiB


def ended(sb: Sandboxes, *command: str | Path) -> tuple[str, int]:
    """Run a command of sb's that must succeed; what it wrote to stdout, and the most memory that it had, in KiB."""
    with tempfile.TemporaryFile("w+") as output:
        timed = ["timeout", f"{MINUTES}m", SB, *command]
        process = subprocess.Popen(timed, env=sb.environment, stdin=subprocess.DEVNULL, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert 0 == process.returncode
        output.seek(0)
        return output.read(), usage.ru_maxrss


@pytest.mark.long
def test_a_hundred_thousand_changes(sb: Sandboxes, tmp_path: Path) -> None:
    """All are listed and applied, half of them files that are there, and neither takes a gigabyte."""
    directory = tmp_path / "host"
    for number in range(MANY // 2):
        if number % IN_EACH == 0:
            (directory / str(number // IN_EACH)).mkdir(parents=True)
        (directory / str(number // IN_EACH) / str(number)).write_text("before\n")
    script = f"""for d in *; do for n in $(seq {IN_EACH}); do echo new >$d/new-$n; done
    for f in $d/[0-9]*; do echo after >>$f; done; done"""
    ended(sb, "run", "-q", "--name", "box", "-w", directory, "--", "bash", "-euc", script)
    listed, memory = ended(sb, "diff", "box")
    assert (MANY, True) == (len(listed.splitlines()), memory < MEMORY)
    _, memory = ended(sb, "apply", "-q", "box")
    assert memory < MEMORY
    assert ("", 0) == (ended(sb, "diff", "box")[0], len([each for each in os.listdir(directory) if each[0] == "."]))
    texts = [path.read_text() for path in directory.glob("*/*")]
    assert (MANY, {"before\nafter\n", "new\n"}) == (len(texts), set(texts))
