"""--read-only-path, --disk and --audit: what a sandbox may do with its files, and what is told of it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.running import python

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


def records(path: Path) -> list[dict[str, Any]]:
    """The records in an audit file."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_read_only_paths(sb: Sandboxes, tmp_path: Path) -> None:
    """What is at and beneath the path can't be changed, its neighbour can; a path that isn't there can't be made."""
    for name in ("keep", "free"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text("old")
    script = f"""
    import errno, os
    os.chdir({str(tmp_path)!r})
    def change(name):
        for act in (
            lambda: open(f"{{name}}/f", "w"), lambda: os.unlink(f"{{name}}/f"), lambda: os.mkdir(f"{{name}}/d"),
            lambda: os.chmod(name, 0o700), lambda: os.rename(name, "moved"), lambda: os.mkdir("missing"),
        ):
            try:
                act()
                yield "done"
            except OSError as error:
                yield errno.errorcode[error.errno]
    print(*change("keep"))
    print(*change("free"))
    print(open("keep/f").read())
    """
    options = ("--read-only-path", str(tmp_path / "keep"), "--read-only-path", str(tmp_path / "missing"))
    assert ["EROFS " * 5 + "EROFS", "done done done done done EROFS", "old"] == python(sb, script, *options)


def test_read_only_paths_in_a_volume(sb: Sandboxes, tmp_path: Path) -> None:
    """Within a volume that can be written to, a read-only path can't; one that isn't there is an error."""
    for name in ("keep", "free"):
        (tmp_path / name).mkdir()
    script = "touch /v/keep/a; touch /v/free/a; ls /v/keep /v/free"
    result = sb("-q", "-v", f"{tmp_path}:/v", "--read-only-path", "/v/keep", "--", "sh", "-c", script)
    assert "/v/free:\na\n\n/v/keep:\n" == result.stdout
    assert "Read-only file system" in result.stderr
    missing = sb("-q", "-v", f"{tmp_path}:/v", "--read-only-path", "/v/missing", "--", "true")
    assert (125, True) == (missing.returncode, f"{tmp_path}/missing" in missing.stderr)


def test_hides_by_pattern(sb: Sandboxes, tmp_path: Path) -> None:
    """A `*` in the last component stands for anything, and hard links to what it means are gone too; without it all
    are there."""
    for name in ("cc_1", "cc_b", "other"):
        (tmp_path / name).write_text(name)
    os.link(tmp_path / "cc_1", tmp_path / "link")
    assert "other\n" == sb("--hide", f"{tmp_path}/cc_*", "ls", str(tmp_path)).stdout
    assert "cc_1\ncc_b\nlink\nother\n" == sb("ls", str(tmp_path)).stdout


def test_disk(sb: Sandboxes, tmp_path: Path) -> None:
    """More than --disk can't be written; what is deleted can be written again; df shows the limit."""
    script = f"""
    cd {tmp_path}; df --output=size -B 1M . | tail -1
    head -c 5M /dev/zero >a && sync a && echo written
    head -c 6M /dev/zero >b; sync b || echo refused
    rm -f a b; head -c 5M /dev/zero >c && sync c && echo written
    """
    result = sb("-q", "--disk", "8m", "--", "bash", "-c", script)
    assert ["8", "written", "refused", "written"] == result.stdout.split()
    assert "Disk quota exceeded" in result.stderr


def test_disk_of_a_sandbox_that_is_kept(sb: Sandboxes, tmp_path: Path) -> None:
    """The next start knows what is there already."""
    write = f"head -c 5M /dev/zero >{tmp_path}/$0 && sync {tmp_path}/$0"
    assert 0 == sb("-q", "--name", "kept", "--disk", "8m", "--", "bash", "-c", write, "a").returncode
    assert 1 == sb.command("start", "-a", "kept", "--", "bash", "-c", write, "b").returncode
    assert 0 == sb.command("start", "-a", "kept", "--", "bash", "-c", f"rm {tmp_path}/*; {write}", "b").returncode
    assert 0 == sb.command("rm", "kept").returncode


@pytest.mark.parametrize("size", ["", "x", "0", "-1", "8q"])
def test_disk_takes_sizes(sb: Sandboxes, size: str) -> None:
    """What isn't a size above 0 is an error with a hint, and nothing runs."""
    result = sb(f"--disk={size}", "echo", "ran")
    expected = (0, "ran\n") if not size else (125, "")
    assert expected == (result.returncode, result.stdout)
    assert bool(size) == ("not a size" in result.stderr and "hint:" in result.stderr)


def test_audit(sb: Sandboxes, tmp_path: Path) -> None:
    """Each line says who did what with which file, and what was refused; a second run adds to the file."""
    log = tmp_path / "audit"
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "f").write_text("f")
    options = ("--audit", str(log), "--hide", str(tmp_path / "secret"), "--read-only-path", str(tmp_path / "f"))
    script = f"cd {tmp_path}; cat f; touch new; cat secret; echo x >>f"
    assert "f" == sb("-q", *options, "--", "bash", "-c", script).stdout
    found = [each for each in records(log) if each.get("path", "").startswith(str(tmp_path))]
    told = [(each["op"], os.path.basename(each["path"]), each["result"], each["comm"]) for each in found]
    for expected in (
        ("open", "f", "ok", "cat"),
        ("create", "new", "ok", "touch"),
        ("lookup", "secret", "ENOENT", "cat"),
        ("open", "f", "EROFS", "bash"),
    ):
        assert expected in told
    assert {"time", "op", "path", "result", "pid", "comm"} <= set(found[0])
    assert all(each["pid"] > 2 for each in found)  # the sandbox's own numbers for them begin at 2
    before = log.read_bytes()
    assert 0o600 == log.stat().st_mode & 0o777
    sb("-q", "--audit", str(log), "--", "true")
    assert log.read_bytes().startswith(before)
    assert len(before) < log.stat().st_size


def test_an_audit_that_cannot_be_written(sb: Sandboxes, tmp_path: Path) -> None:
    """A directory, a place without permission, a FIFO without reader: one clear line, at once, and nothing runs."""
    os.mkfifo(tmp_path / "fifo")
    for path, why in ((tmp_path, "Is a directory"), ("/audit", "Permission denied"), (tmp_path / "fifo", "No such")):
        for mode in ("-q", "-d"):
            result = sb.command("run", mode, "--audit", str(path), "--", "echo", "ran")
            assert (125, "") == (result.returncode, result.stdout)
            assert result.stderr.startswith(f"sb: cannot write records to {path}: {why}")
        assert [] == sb.left_behind(within=2.0)


def test_an_audit_that_nobody_reads(sb: Sandboxes, tmp_path: Path) -> None:
    """A full pipe makes the sandbox neither wait nor fail."""
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    script = "for n in $(seq 3000); do : </etc/passwd; done; echo done"
    assert "done\n" == sb("-q", "--audit", str(tmp_path / "fifo"), "--", "bash", "-c", script).stdout
    assert b'"op": "open"' in os.read(reader, 1 << 16)
    os.close(reader)
