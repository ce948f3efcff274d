"""`--engine kernel`: the kernel's overlayfs below the same commands."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox import processes
from tests.sandbox.running import SB, remove_for_all, stdout_until, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.sandbox.running import Sandboxes

PROGRAMS = ("sh", "cat", "chmod", "chown", "echo", "ln", "ls", "mkdir", "mknod", "mv", "rm", "sleep", "stat", "touch")
# A bit of everything that can be said of a layer.
CHANGES = """
    echo two >/etc/file; echo new >/new; chown 33:44 /new; chmod 4750 /new; rm /etc/gone; rm -r /var/old
    mkdir /var/old; echo other >/var/old/other; mv /var/moved /var/here; mkdir /locked; touch /locked/inner
    chown -R 5:6 /locked; chmod 700 /locked; ln -s new /link; ln /etc/file /etc/again
    chmod 600 /etc/mode; touch /etc/same
    """


@pytest.fixture
def root(sb: Sandboxes, tmp_path: Path, program: Callable[[str], Path]) -> Iterator[Path]:
    """A small root file system; its user's subordinate ids may come to own some of it."""
    made = tmp_path / "root"
    for name in ("bin", "proc", "dev", "sys", "etc", "var/old/deep", "var/moved"):
        (made / name).mkdir(parents=True)
    subprocess.run(["cp", program("busybox"), made / "bin/busybox"], check=True)
    for name in PROGRAMS:
        (made / "bin" / name).symlink_to("busybox")
    for name in ("etc/file", "etc/gone", "etc/mode", "etc/same", "var/old/one", "var/old/deep/two", "var/moved/three"):
        (made / name).write_text("one\n")
    yield made
    for left in (made, store(sb)):
        remove_for_all(left)


def change(sb: Sandboxes, root: Path, engine: str, script: str, *options: str) -> None:
    """Have a new sandbox, called as its engine, run a script. It must succeed."""
    done = sb("--engine", engine, "--rootfs", str(root), "--name", engine, *options, "--", "/bin/sh", "-euc", script)
    assert (0, "") == (done.returncode, done.stderr)


def described(sb: Sandboxes, engine: str) -> list[dict[str, Any]]:
    """What `sb diff` says of a sandbox."""
    done = sb.command("diff", "--json", engine)
    assert (0, "") == (done.returncode, done.stderr)
    changes: list[dict[str, Any]] = json.loads(done.stdout)["changes"]
    return changes


def exported(sb: Sandboxes, engine: str) -> dict[str, tuple[object, ...]]:
    """What `sb export` has of a sandbox's tree."""
    done = subprocess.run([SB, "export", engine], env=sb.environment, stdout=subprocess.PIPE, check=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        return {
            each.name: (each.type, each.mode, each.uid, each.gid, each.size, each.linkname)
            for each in archive
            if each.name != "."
        }


def upper(sb: Sandboxes) -> Path:
    """The layer of the only sandbox that is kept."""
    (found,) = (path for path in store(sb).glob("*") if path.name != "names")
    return found / "upper"


def test_both_engines_change_the_same(sb: Sandboxes, root: Path, subordinate_ids: int) -> None:
    """diff and export say the same of a script's work, owners and modes included."""
    assert subordinate_ids
    for engine in ("fuse", "kernel"):
        change(sb, root, engine, CHANGES)
    assert described(sb, "fuse") == described(sb, "kernel")
    assert exported(sb, "fuse") == exported(sb, "kernel")


def test_who_serves(sb: Sandboxes, root: Path) -> None:
    """It is the kernel's overlayfs, and sb's own without the option."""
    kinds = [
        sb("--engine", engine, "--rootfs", str(root), "--", "/bin/cat", "/proc/self/mounts").stdout.split()[2]
        for engine in ("kernel", "fuse")
    ]
    assert ["overlay", "fuse"] == kinds


def test_the_hosts_name(sb: Sandboxes, root: Path) -> None:
    """--uts host: with either engine the sandbox has no name of its own."""
    own = "/proc/self/ns/uts"
    for engine in ("kernel", "fuse"):
        done = sb("--engine", engine, "--rootfs", str(root), "--uts", "host", "--", "/bin/busybox", "readlink", own)
        assert f"{os.readlink(own)}\n" == done.stdout


def test_apply(sb: Sandboxes, root: Path, subordinate_ids: int) -> None:
    """What is applied belongs to the subordinate ids that it belonged to; the same chown by the caller fails."""
    assert subordinate_ids
    change(sb, root, "kernel", CHANGES)
    theirs = (upper(sb) / "new").stat()
    done = sb.command("apply", "--allow-risky", "kernel")
    assert 0 == done.returncode, done.stderr
    applied = (root / "new").stat()
    assert (theirs.st_uid, theirs.st_gid, 0o4750) == (applied.st_uid, applied.st_gid, stat.S_IMODE(applied.st_mode))
    assert applied.st_uid not in (33, os.getuid())
    with pytest.raises(PermissionError):
        os.chown(root / "etc/file", applied.st_uid, -1)
    assert ("two\n", "two\n") == ((root / "etc/file").read_text(), (root / "etc/again").read_text())
    assert ([], ["other"]) == ([*root.glob("etc/gone")], os.listdir(root / "var/old"))
    assert [] == described(sb, "kernel")


def test_removal_of_what_belongs_to_others(sb: Sandboxes, root: Path, subordinate_ids: int) -> None:
    """`sb rm` removes a layer that its user alone couldn't."""
    assert subordinate_ids
    change(sb, root, "kernel", CHANGES)
    assert 0 != subprocess.run(["rm", "-rf", upper(sb) / "locked"], stderr=subprocess.DEVNULL, check=False).returncode
    done = sb.command("rm", "kernel")
    assert (0, "kernel\n", "") == (done.returncode, done.stdout, done.stderr)
    assert [] == [path for path in store(sb).glob("*") if path.name != "names"]


def test_start_exec_and_cp(sb: Sandboxes, root: Path, tmp_path: Path) -> None:
    """A sandbox goes on where it ended, can be entered, and files go out of it and into it."""
    change(sb, root, "kernel", "echo two >/etc/file")
    (tmp_path / "given").write_text("given\n")
    assert 0 == sb.command("cp", str(tmp_path / "given"), "kernel:/etc/given").returncode
    assert 0 == sb.command("cp", "kernel:/etc/file", str(tmp_path / "taken")).returncode
    assert "two\n" == (tmp_path / "taken").read_text()
    assert 0 == sb.command("start", "kernel", "--", "/bin/sleep", "1000").returncode
    seen = sb.command("exec", "kernel", "--", "/bin/cat", "/etc/file", "/etc/given")
    assert (0, "two\ngiven\n") == (seen.returncode, seen.stdout)
    assert 0 == sb.command("exec", "kernel", "--", "/bin/sh", "-c", "echo now >/etc/now").returncode
    assert ["/etc/file", "/etc/given", "/etc/now"] == [each["path"] for each in described(sb, "kernel")]
    assert 0 == sb.command("rm", "-f", "kernel").returncode


def anybody_makes_whiteouts(place: Path) -> bool:
    """Whether the kernel lets anybody make a device 0:0, as it does since Linux 5.8 (vfs_mknod in fs/namei.c)."""
    try:
        os.mknod(place / "node", stat.S_IFCHR, 0)
    except PermissionError:
        return False
    return True


def test_marks_cannot_be_forged(sb: Sandboxes, root: Path, tmp_path: Path) -> None:
    """A file with a mark's name is a file, and a whiteout's node can't be made but elsewhere: the control."""
    control = "mknod /scratch/node c 0 0" if anybody_makes_whiteouts(tmp_path) else "true"
    script = f"echo >/etc/.wh.file; mkdir /var/x; echo >/var/x/.wh..wh..opq; {control}"
    change(
        sb, root, "kernel", f"{script}; if mknod /var/node c 0 0 2>/dev/null; then exit 1; fi", "--tmpfs", "/scratch"
    )
    changes = {each["path"]: each["kind"] for each in described(sb, "kernel")}
    assert {"/etc/.wh.file": "A", "/var/x": "A", "/var/x/.wh..wh..opq": "A"} == changes


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ((), "--engine kernel"),
        (("--hide", "/etc"), "--engine kernel and --hide"),
        (("--read-only-path", "/etc"), "--engine kernel and --read-only-path"),
        (("--disk", "1g"), "--engine kernel and --disk"),
        (("--audit", "/dev/null"), "--engine kernel and --audit"),
    ],
)
def test_what_it_cannot_do(sb: Sandboxes, root: Path, options: tuple[str, ...], what: str) -> None:
    """It is refused with the reason and a hint, before anything is made."""
    where = ("--rootfs", str(root)) if options else ()
    done = sb("--engine", "kernel", *where, *options, "--", "/bin/true")
    assert 125 == done.returncode
    assert done.stderr.startswith(f"sb: {what}: ")
    assert "\nhint: " in done.stderr


def test_with_one_id(sb: Sandboxes, root: Path) -> None:
    """Without subordinate ids nothing can be given to others, and all else is as it was."""
    script = "if chown 33 /etc/file 2>/dev/null; then exit 1; fi; echo two >/etc/file"
    change(sb, root, "kernel", script, "--userns", "single")
    assert ["/etc/file"] == [each["path"] for each in described(sb, "kernel")]


@pytest.mark.parametrize("title", ["sb-watch", "sb-init", ""])
def test_deaths(sb: Sandboxes, root: Path, subordinate_ids: int, title: str) -> None:
    """Whichever process is killed, the one that the user waits for included, nothing is left of what was changed."""
    assert subordinate_ids
    script = f"{CHANGES} echo ready; exec sleep 1000"
    process = sb.start("-q", "--engine", "kernel", "--rootfs", str(root), "--", "/bin/sh", "-euc", script)
    stdout_until(process, b"ready\n")
    names = {each.name: each.pid for each in processes.descendants(process.pid)}
    assert "sb-overlay" not in names
    os.kill(names[title] if title else process.pid, signal.SIGKILL)
    process.wait(60)
    assert [] == sb.left_behind(within=2.0)
