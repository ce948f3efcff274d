"""Overlays to test: driven directly, without a mount, and mounted in a user namespace."""

from __future__ import annotations

import errno
import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from fuse_overlay.config import Config, Extent, Lower
from fuse_overlay.creation import Caller
from fuse_overlay.entries import Missing
from fuse_overlay.errors import failure
from fuse_overlay.metadata import Wanted
from fuse_overlay.overlay import Overlay
from tests.overlay import ways

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fuse_overlay.entries import Entry
    from fuse_overlay.mounts import Mounts

# A file's content, a directory's entries, a symbolic link's target, or None: a whiteout.
Contents: TypeAlias = "bytes | dict[str, Contents] | str | None"
Plant: TypeAlias = "Callable[[Path, dict[str, Contents]], Path]"

SERVE_HERE = Path(__file__).with_name("serve_here.py")
MAX_IDS = 1 << 31


def plant_tree(directory: Path, contents: dict[str, Contents]) -> Path:
    """Make a directory with these contents."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, what in contents.items():
        path = directory / name
        if isinstance(what, dict):
            plant_tree(path, what)
        elif isinstance(what, bytes):
            path.write_bytes(what)
        elif isinstance(what, str):
            path.symlink_to(what)
        else:
            os.mknod(path, stat.S_IFCHR | 0o600, 0)
    return directory


class Driver:
    """Paths instead of inode numbers, over an overlay without a mount. Symbolic links are not followed."""

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay

    def entry(self, path: str) -> Entry:
        """The entry at a path. Raises FileNotFoundError."""
        entry = self.overlay.getattr(1)
        for name in os.fsencode(path).split(b"/"):
            if name:
                found = self.overlay.lookup(entry.node.ino, name)
                if isinstance(found, Missing):
                    raise failure(errno.ENOENT)
                entry = found
        return entry

    def ino(self, path: str) -> int:
        """The inode number at a path."""
        return self.entry(path).node.ino

    def exists(self, path: str) -> bool:
        """Whether there is something at a path."""
        try:
            self.entry(path)
        except FileNotFoundError:
            return False
        return True

    def split(self, path: str) -> tuple[int, bytes]:
        """The number of the directory that a path's last name is in, and that name."""
        above, _, name = path.rpartition("/")
        return self.ino(above), os.fsencode(name)

    def ls(self, path: str = "") -> list[str]:
        """The sorted names in a directory."""
        handle = self.overlay.opendir(self.ino(path))
        names = [os.fsdecode(name) for name, _, _ in self.overlay.readdir(handle, 0)]
        self.overlay.releasedir(handle)
        return sorted(name for name in names if name not in (".", ".."))

    def read(self, path: str) -> bytes:
        """A file's content."""
        handle = self.overlay.open(self.ino(path), os.O_RDONLY).handle
        try:
            return self.overlay.read(handle, 1 << 20, 0)
        finally:
            self.overlay.release(handle)

    def write(self, path: str, content: bytes) -> None:
        """Replace a file's content, or make the file."""
        parent, name = self.split(path)
        if self.exists(path):
            handle = self.overlay.open(self.ino(path), os.O_WRONLY | os.O_TRUNC).handle
        else:
            handle = self.overlay.create(parent, name, 0o644, os.O_WRONLY, Caller())[0].handle
        with self.overlay.descriptor(handle) as fd:
            os.pwrite(fd, content, 0)
        self.overlay.release(handle)

    def mkdir(self, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
        """Make a directory."""
        self.overlay.mknod(*self.split(path), stat.S_IFDIR | mode, Caller(uid, gid))

    def symlink(self, path: str, target: bytes) -> None:
        """Make a symbolic link."""
        self.overlay.symlink(*self.split(path), target, Caller())

    def link(self, old: str, new: str) -> None:
        """Give a file one more name."""
        self.overlay.link(self.ino(old), *self.split(new))

    def unlink(self, path: str) -> None:
        """Remove a file's name."""
        self.overlay.unlink(*self.split(path))

    def rmdir(self, path: str) -> None:
        """Remove a directory."""
        self.overlay.rmdir(*self.split(path))

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        """Rename."""
        self.overlay.rename(*self.split(old), *self.split(new), flags)

    def set(self, path: str, **wanted: int) -> None:
        """Change attributes: see Wanted."""
        self.set_by_number(self.ino(path), **wanted)

    def set_by_number(self, number: int, **wanted: int) -> None:
        """Change attributes of the file with this inode number."""
        self.overlay.setattr(number, Wanted(**wanted))


class Stage:
    """Directories for one overlay below a temporary directory, and the overlay over them."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.upper = base / "upper"
        self.work = base / "work"
        self._open: list[Overlay] = []

    def lower(self, name: str, contents: dict[str, Contents], *, layer: bool = True, live: bool = False) -> Lower:
        """Make a lower directory."""
        return Lower(os.fsencode(plant_tree(self.base / name, contents)), layer=layer, live=live)

    def config(self, *lowers: Lower, hidden: tuple[Path, ...] = ()) -> Config:
        """A configuration in which every id below 2**31 exists and what is ours is shown as root's."""
        self.upper.mkdir(exist_ok=True)
        self.work.mkdir(exist_ok=True)
        ids = (Extent(0, MAX_IDS),)
        return Config(
            lowers,
            os.fsencode(self.upper),
            os.fsencode(self.work),
            tuple(os.fsencode(path) for path in hidden),
            uids=ids,
            gids=ids,
        )

    def drive(self, config: Config, mounts: Mounts | None = None) -> Driver:
        """An overlay, without a mount."""
        overlay = Overlay(config, mounts)
        self._open.append(overlay)
        return Driver(overlay)

    def adopt(self, overlay: Overlay) -> None:
        """Close this overlay with the others."""
        self._open.append(overlay)

    def over(self, *lowers: Lower) -> Driver:
        """An overlay over these lower directories, without a mount."""
        return self.drive(self.config(*lowers))

    def close(self) -> None:
        """Close all overlays."""
        while self._open:
            self._open.pop().close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A place for an overlay without a mount."""
    made = Stage(tmp_path)
    mask = os.umask(0o022)
    yield made
    os.umask(mask)
    made.close()


class Mounted:
    """An overlay that a script finds mounted: as root of a user namespace of its own, in the mountpoint `merged`."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.lower = base / "lower"
        self.upper = base / "upper"
        self.work = base / "work"
        self.merged = base / "merged"
        for path in (self.lower, self.upper, self.work, self.merged):
            path.mkdir()

    def command(self) -> list[str]:
        """The fuse-overlay command that mounts."""
        options = f"lowerdir={self.lower},upperdir={self.upper},workdir={self.work}"
        return [sys.executable, "-m", "fuse_overlay.cli", "-o", options, str(self.merged)]

    def start(
        self, script: str, *, live: bool = False, hidden: tuple[Path, ...] = (), options: tuple[str, ...] = ()
    ) -> subprocess.Popen[str]:
        """Start a bash script in the mountpoint. It fails at the first command that does.

        The overlay is served as `sb` does it, by descriptor. `live`: the lower directory is a plain, live tree.
        `options` are for serve_here.py.
        """
        hides = tuple(f"--hide={path}" for path in hidden)
        return subprocess.Popen(
            ["unshare", "-Urm", *self._serving(script, live, (*hides, *options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        script: str,
        *,
        live: bool = False,
        hidden: tuple[Path, ...] = (),
        options: tuple[str, ...] = (),
        timeout: int = 300,
    ) -> str:
        """Run a bash script in the mountpoint to its end, which must come in so many seconds. Returns what it printed;
        it must succeed.
        """
        process = self.start(script, live=live, hidden=hidden, options=options)
        output, errors = process.communicate(timeout=timeout)
        assert (0, "") == (process.returncode, errors if process.returncode else "")
        return output

    def server(self, script: str, wrapper: str = "") -> str:
        """Run a bash script in the mountpoint of `fuse-overlay`, started through a program. Returns what it printed."""
        commands = f"""
        {wrapper} {shlex.join(self.command())} -f >/dev/null 2>&1 & server=$!
        until mountpoint -q {self.merged}; do kill -0 $server || exit; sleep 0.05; done
        cd {self.merged}; bash -euc {shlex.quote(script)}; status=$?; cd /; umount {self.merged}; wait $server
        exit $status
        """
        result = subprocess.run(
            ["unshare", "-Urm", "bash", "-uc", commands], capture_output=True, text=True, check=False, timeout=300
        )
        assert (0, "") == (result.returncode, result.stderr if result.returncode else "")
        return result.stdout

    def run_with_ids(self, *scripts: str, before: str = "", options: tuple[str, ...] = ()) -> str:
        """Run bash scripts, each in a mount of its own, as root of a namespace with subordinate ids (subuid(5)).

        `before` is run first, in the same mount namespace; `options` are for serve_here.py. Returns what all printed;
        each must succeed.
        """
        steps = [["bash", "-euc", before], *(self._serving(script, False, options) for script in scripts)]
        script = "; ".join(["set -e", *map(shlex.join, steps)])
        command = ["unshare", "-Urm", "--map-auto", "bash", "-c", script]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if "newuidmap" in result.stderr or "subuid" in result.stderr:
            pytest.skip("no subordinate ids, or no newuidmap")
        assert (0, "") == (result.returncode, result.stderr if result.returncode else "")
        return result.stdout

    def _serving(self, script: str, live: bool, options: tuple[str, ...]) -> list[str]:
        """The command that serves the overlay while it runs a script."""
        shell = ["bash", "-euo", "pipefail", "-c", script]
        mode = "live" if live else "layer"
        places = [str(path) for path in (self.lower, self.upper, self.work, self.merged)]
        return [sys.executable, str(SERVE_HERE), mode, *places, *options, "--", *shell]


@pytest.fixture(params=ways.WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who answers: the helper, or Python alone."""
    way: str = request.param
    ways.take(way, monkeypatch)
    return way


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    """Directories for an overlay that is mounted for a script."""
    return Mounted(tmp_path)


@pytest.fixture
def plant() -> Plant:
    """Makes a directory with given contents."""
    return plant_tree
