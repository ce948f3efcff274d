"""Pipes and files at full size, and at their ends."""

from __future__ import annotations

import hashlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.running import PATIENCE, SB

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Count
    from tests.sandbox.running import Sandboxes

MEBIBYTE = 1 << 20


def shell(sb: Sandboxes, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script under bash."""
    return subprocess.run(
        ["bash", "-c", script], env=sb.environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def test_gigabytes_through_cat(sb: Sandboxes, count: Count, tmp_path: Path) -> None:
    """Bytes come out as they went in: through pipes of the caller's, and through a file on either side."""
    block = os.urandom(MEBIBYTE)
    source = tmp_path / "source"
    with source.open("wb") as file:
        for number in range(count(64, 1024)):
            file.write(number.to_bytes(8) + block[8:])
    wanted = hashlib.sha256(source.read_bytes()).hexdigest()
    copy = tmp_path / "copy"
    for how in (f"cat '{source}' | '{SB}' run cat | cat >'{copy}'", f"'{SB}' run cat <'{source}' >'{copy}'"):
        assert 0 == shell(sb, how).returncode
        assert wanted == hashlib.sha256(copy.read_bytes()).hexdigest()


def test_a_reader_that_has_had_enough(sb: Sandboxes) -> None:
    """`sb run yes | head -1` ends, and the command dies of SIGPIPE as it would without sb."""
    script = f"'{SB}' run yes | head -1; echo ${{PIPESTATUS[0]}}"
    done = shell(sb, script)
    assert "y\n141\n" == done.stdout


def test_a_list_that_a_loop_reads(sb: Sandboxes, tmp_path: Path) -> None:
    """What a run in a loop doesn't read of the loop's own stdin is there for the next turn."""
    (tmp_path / "list").write_text("one\ntwo\nthree\n")
    script = f"while read word; do '{SB}' run -q echo \"got $word\"; done <'{tmp_path}/list'"
    done = shell(sb, script)
    assert "got one\ngot two\ngot three\n" == done.stdout


def test_what_was_read_is_not_given_back(sb: Sandboxes, tmp_path: Path) -> None:
    """A command that reads one line of a file leaves the rest to what comes after it."""
    (tmp_path / "list").write_text("".join(f"line {number}\n" for number in range(20_000)))
    script = f"{{ '{SB}' run -q python3 -c 'import os; os.read(0, 7)'; head -1; }} <'{tmp_path}/list'"
    done = shell(sb, script)
    assert "line 1\n" == done.stdout


def test_a_full_disk_under_stdout(sb: Sandboxes) -> None:
    """An error of the caller's own file is one line, and 125."""
    script = f"'{SB}' run -q echo hello >/dev/full"
    done = shell(sb, script)
    assert (125, "sb: cannot pass on what the command reads or writes: No space left on device\n") == (
        done.returncode,
        done.stderr,
    )


@pytest.mark.parametrize("command", ["--version", "--help", "run --help", "ps", "ps --json", "run --dry-run true"])
def test_a_full_disk_under_data(sb: Sandboxes, command: str) -> None:
    """What sb itself writes to stdout and is lost is an error, in one line."""
    done = shell(sb, f"'{SB}' {command} >/dev/full")
    assert (125, "sb: cannot write to stdout: No space left on device\n") == (done.returncode, done.stderr)
    assert 0 == shell(sb, f"'{SB}' {command} >/dev/null").returncode


def test_a_long_command_line_and_environment(sb: Sandboxes) -> None:
    """Megabytes of arguments and variables reach the command as they are."""
    words = ["x" * 100_000] * 15
    counted = sb("-q", "--", "sh", "-c", 'echo $# ${#1} ${#LONG}', "sh", *words, variables={"LONG": "y" * 90_000})
    assert "15 100000 90000\n" == counted.stdout


def test_closed_descriptors(sb: Sandboxes) -> None:
    """With stdin, stdout and stderr closed the command still finds all three, as /dev/null."""
    script = f"'{SB}' run -q -- sh -c 'ls -l /proc/self/fd >/tmp/sb; grep -c /dev/null /tmp/sb; exit 7' <&- >&- 2>&-"
    done = shell(sb, script)
    assert (7, "", "") == (done.returncode, done.stdout, done.stderr)
