"""stdin, stdout and stderr that are no terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.running import PATIENCE, SB

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


def shell(sb: Sandboxes, script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script outside, in which `$SB` is the command sb."""
    environment = {**sb.environment, "SB": str(SB)}
    return subprocess.run(
        ["sh", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=directory,
        env=environment,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def test_pipes_are_handed_over(sb: Sandboxes) -> None:
    """The bytes don't pass through sb: inside there is the same pipe as outside."""
    reader, writer = os.pipe()
    process = sb.start("stat", "-Lc", "%i", "/proc/self/fd/1", streams={"stdout": writer})
    inode = os.fstat(writer).st_ino
    os.close(writer)
    assert 0 == process.wait(60)
    assert inode == int(os.read(reader, 100))
    os.close(reader)


def test_the_file_itself_stays_outside(sb: Sandboxes, tmp_path: Path) -> None:
    """Inside, the descriptors of regular files are pipes, so no reopening of them reaches the files."""
    (tmp_path / "in").write_text("in")
    script = "readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2; echo written >/proc/self/fd/0"
    with (tmp_path / "in").open() as source, (tmp_path / "out").open("w") as target:
        sb.start("sh", "-c", script, streams={"stdin": source, "stdout": target, "stderr": subprocess.STDOUT}).wait(60)
    lines = (tmp_path / "out").read_text().splitlines()
    assert ["pipe"] * 3 == [line.partition(":")[0] for line in lines[:3]]
    assert lines[1] == lines[2]
    assert "in" == (tmp_path / "in").read_text()


def test_one_log_keeps_its_order(sb: Sandboxes, tmp_path: Path) -> None:
    """`>log 2>&1` has the lines of both in the order in which they were written."""
    script = "i=0; while [ $i -lt 500 ]; do echo $i; i=$((i + 1)); echo $i >&2; i=$((i + 1)); done"
    with (tmp_path / "log").open("w") as log:
        assert 0 == sb.start("sh", "-c", script, streams={"stdout": log, "stderr": subprocess.STDOUT}).wait(60)
    assert [str(number) for number in range(500)] == (tmp_path / "log").read_text().split()


def test_appending(sb: Sandboxes, tmp_path: Path) -> None:
    """`>>log` appends."""
    shell(sb, "echo first >log; $SB run echo second >>log; echo third >>log", tmp_path)
    assert ["first", "second", "third"] == (tmp_path / "log").read_text().split()


def test_what_was_read_is_gone(sb: Sandboxes, tmp_path: Path) -> None:
    """What the command reads of a file is not read again, to the byte."""
    (tmp_path / "list").write_text("".join(f"{number}\n" for number in range(6)))
    script = "while read one; do $SB run sh -c 'read two; echo $1-$two' sh $one; done <list"
    assert "0-1\n2-3\n4-5\n" == shell(sb, script, tmp_path).stdout


def test_stdin_is_at_its_end(sb: Sandboxes) -> None:
    """/dev/null and an empty pipe are at their end inside too."""
    assert 0 == sb.start("cat", streams={"stdin": subprocess.DEVNULL}).wait(60)
    assert (0, "") == (sb("cat").returncode, sb("cat").stdout)


@pytest.mark.parametrize(
    ("closed", "left", "expected"),
    [("<&- 2>&-", 1, ["/dev/null", "pipe", "/dev/null"]), (">&-", 2, ["/dev/null", "/dev/null", "pipe"])],
)
def test_closed_descriptors(sb: Sandboxes, tmp_path: Path, closed: str, left: int, expected: list[str]) -> None:
    """What the caller has closed is /dev/null inside, and what it hasn't is what it was."""
    program = f"import os\nfor n in range(3): os.write({left}, os.readlink(f'/proc/self/fd/{{n}}').encode() + b'\\n')"
    (tmp_path / "links.py").write_text(program)
    result = shell(sb, f"$SB run {sys.executable} links.py {closed}", tmp_path)
    said = (result.stdout, result.stderr)[left - 1]
    assert expected == [line.partition(":")[0] for line in said.splitlines()]


def test_output_of_a_daemon_does_not_hold_up_the_end(sb: Sandboxes, tmp_path: Path) -> None:
    """The run ends with the command, although something in the background still holds stdout."""
    with (tmp_path / "log").open("w") as log:
        process = sb.start("sh", "-c", "sleep 1000 & echo done", streams={"stdout": log, "stderr": log})
        assert 0 == process.wait(60)
    assert "done\n" == (tmp_path / "log").read_text()
