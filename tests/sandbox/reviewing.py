"""What the tests of diff, apply and the like share: a directory of the host's, and what a sandbox does to it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from typing import TYPE_CHECKING, Any

from tests.sandbox import processes
from tests.sandbox.running import SB, eventually, start_on_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


def change(sb: Sandboxes, directory: Path, script: str, name: str = "box") -> None:
    """Have a new sandbox run a bash script in a directory. It must succeed."""
    done = sb("--name", name, "-q", "-w", str(directory), "--", "bash", "-euc", script)
    assert (0, "") == (done.returncode, done.stderr), done.stderr


def diff(sb: Sandboxes, directory: Path, *options: str, name: str = "box") -> list[str]:
    """What `sb diff` prints, a line each, without the directory's own path."""
    done = sb.command("diff", *options, name)
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout.replace(f" {directory}/", " ").splitlines()


def changes(sb: Sandboxes, name: str = "box") -> list[dict[str, Any]]:
    """What `sb diff --json` says of the changes."""
    document = json.loads(sb.command("diff", "--json", name).stdout)
    assert 1 == document["schema"]
    found: list[dict[str, Any]] = document["changes"]
    return found


def snapshot(directory: Path, *, links: bool = True) -> dict[str, tuple[object, ...]]:
    """Everything in a directory that counts: type, mode, owner, data or target, attributes; times don't.

    With `links` also which names are one file.
    """
    found: dict[str, tuple[object, ...]] = {}
    firsts: dict[tuple[int, int], str] = {}
    for path in sorted([directory, *directory.rglob("*")]):
        st = path.lstat()
        name = str(path.relative_to(directory))
        kind = stat.S_IFMT(st.st_mode)
        data: object = None
        if kind == stat.S_IFLNK:
            data = os.readlink(path)
        elif kind == stat.S_IFREG:
            data = path.read_bytes()
        attributes = sorted(
            (each, os.getxattr(path, each, follow_symlinks=False)) for each in os.listxattr(path, follow_symlinks=False)
        )
        first = firsts.setdefault((st.st_dev, st.st_ino), name) if links and kind != stat.S_IFDIR else ""
        mode = 0 if kind == stat.S_IFLNK else stat.S_IMODE(st.st_mode)
        found[name] = (kind, mode, st.st_uid, st.st_gid, data, attributes, first)
    return found


def at_a_terminal(sb: Sandboxes, *words: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start `sb WORDS` on a terminal of its own, and the other end of that."""
    master, slave = os.openpty()
    process = start_on_terminal(sb, slave, [SB, *words])
    os.close(slave)
    return process, master


def make_directory(directory: Path) -> Path:
    """A directory of the host's, to be changed."""
    for name in ("shut", "gone", "mode"):
        (directory / name).mkdir(parents=True)
        (directory / name / "inner").write_text(f"{name}\n")
    for name in ("file", "other"):
        (directory / name).write_text(f"{name}\n")
    (directory / "shut").chmod(0o500)
    return directory


class Stopped:
    """An `sb apply box` that is stopped at a point."""

    def __init__(self, sb: Sandboxes, point: str, *options: str) -> None:
        self._sb = sb
        self._point = point
        self._options = options

    def __enter__(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [SB, "apply", *self._options, "box"],
            env={**self._sb.environment, "SB_FAULT": f"{self._point}:stop"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        eventually(lambda: is_stopped(self._process.pid))
        return self._process

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped."""
    found = processes.look(pid)
    return found is not None and found.state == "T"


def go_on(process: subprocess.Popen[str]) -> str:
    """Let a stopped apply run to its end, which must be an error, past all points. Returns what it said."""
    while process.poll() is None:
        if is_stopped(process.pid):
            os.kill(process.pid, signal.SIGCONT)
    assert 125 == process.returncode
    assert process.stderr is not None
    return process.stderr.read()


def touched(path: Path) -> bool:
    """Make a file, by whichever way leads there now."""
    path.touch()
    return True
