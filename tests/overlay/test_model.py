"""The overlay beside a plain directory: the same random operations on both, and the same outcome after each."""

from __future__ import annotations

import os
import random
import shutil
import stat
from typing import TYPE_CHECKING, TypeAlias

import pytest

from fuse_overlay.kernel import paths
from fuse_overlay.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Count
    from tests.overlay.conftest import Contents, Driver, Stage

# Each path with its type, link count (of files), permissions and content.
Picture: TypeAlias = "dict[str, tuple[int, int, int, bytes]]"
# An operation: its name, for messages, and how to do it on the overlay and on the plain directory.
Operation: TypeAlias = "tuple[str, Callable[[], object], Callable[[], object]]"

NAMES = ("a", "b", "c")
STEPS = 60


def random_tree(chance: random.Random, depth: int, *, marks: bool) -> dict[str, Contents]:
    """A small tree of directories, files and links; with `marks`, whiteouts among them."""
    tree: dict[str, Contents] = {}
    for name in NAMES:
        kind = chance.choice(("none", "file", "file", "directory", "directory", "link", "mark"))
        if kind == "file":
            tree[name] = chance.randbytes(5)
        elif kind == "directory" and depth:
            tree[name] = random_tree(chance, depth - 1, marks=marks)
        elif kind == "link":
            tree[name] = "nowhere"
        elif kind == "mark" and marks:
            tree[name] = None
    return tree


def of_overlay(driver: Driver, path: str = "") -> Picture:
    """What the overlay shows."""
    picture: Picture = {}
    for name in driver.ls(path):
        below = f"{path}/{name}"
        entry = driver.entry(below)
        kind = entry.node.kind
        content = b""
        if kind == stat.S_IFREG:
            content = driver.read(below)
        elif kind == stat.S_IFLNK:
            content = driver.overlay.readlink(entry.node.ino)
        else:
            picture |= of_overlay(driver, below)
        picture[below] = (kind, 1 if kind == stat.S_IFDIR else entry.nlink, entry.owner.mode, content)
    return picture


def of_directory(top: Path, path: str = "") -> Picture:
    """What a plain directory shows, in the same terms."""
    picture: Picture = {}
    for name in os.listdir(f"{top}{path}"):
        below = f"{path}/{name}"
        real = f"{top}{below}"
        st = os.lstat(real)
        kind = stat.S_IFMT(st.st_mode)
        content = b""
        if kind == stat.S_IFREG:
            with open(real, "rb") as file:
                content = file.read()
        elif kind == stat.S_IFLNK:
            content = os.fsencode(os.readlink(real))
        else:
            picture |= of_directory(top, below)
        picture[below] = (kind, 1 if kind == stat.S_IFDIR else st.st_nlink, stat.S_IMODE(st.st_mode), content)
    return picture


def copy_out(driver: Driver, target: Path) -> None:
    """Make a plain directory of what the overlay shows."""
    target.mkdir()
    for path, (kind, _, mode, content) in sorted(of_overlay(driver).items()):
        real = f"{target}{path}"
        if kind == stat.S_IFDIR:
            os.mkdir(real)
        elif kind == stat.S_IFREG:
            with open(real, "wb") as file:
                file.write(content)
        else:
            os.symlink(content, os.fsencode(real))
        if kind != stat.S_IFLNK:
            os.chmod(real, mode)


def outcome(doing: Callable[[], object]) -> int:
    """The errno that something ends with."""
    try:
        doing()
    except OSError as error:
        return error.errno or -1
    return 0


def plain_rename(top: Path, old: str, new: str, flags: int) -> None:
    """renameat2 on the plain directory."""
    directory = os.open(top, os.O_PATH | os.O_DIRECTORY)
    try:
        paths.rename(directory, os.fsencode(old), directory, os.fsencode(new), flags)
    finally:
        os.close(directory)


def plain_write(path: str, content: bytes) -> None:
    """Replace a file's content, not through a symbolic link."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    os.pwrite(descriptor, content, 0)
    os.close(descriptor)


def random_operation(chance: random.Random, driver: Driver, top: Path) -> Operation | None:
    """Any operation on paths that may exist; None for what the kernel refuses before the file system is asked."""

    def path() -> str:
        return "/".join(chance.choice(NAMES) for _ in range(chance.randint(1, 3)))

    one, two = path(), path()
    real, other = f"{top}/{one}", f"{top}/{two}"
    if not os.path.isdir(os.path.dirname(real)) or not os.path.isdir(os.path.dirname(other)):
        return None
    kind = os.lstat(real).st_mode if os.path.lexists(real) else 0
    match chance.choice(("write", "write", "mkdir", "symlink", "unlink", "rmdir", "rename", "rename", "link", "chmod")):
        case "write" if not stat.S_ISDIR(kind) and not stat.S_ISLNK(kind):
            content = chance.randbytes(6)
            return f"write {one}", lambda: driver.write(one, content), lambda: plain_write(real, content)
        case "mkdir":
            return f"mkdir {one}", lambda: driver.mkdir(one), lambda: os.mkdir(real, 0o755)
        case "symlink":
            return f"symlink {one}", lambda: driver.symlink(one, b"x"), lambda: os.symlink("x", real)
        case "unlink":
            return f"unlink {one}", lambda: driver.unlink(one), lambda: os.unlink(real)
        case "rmdir":
            return f"rmdir {one}", lambda: driver.rmdir(one), lambda: os.rmdir(real)
        case "chmod" if kind and not stat.S_ISLNK(kind):
            mode = chance.choice((0o600, 0o755, 0o640)) if stat.S_ISREG(kind) else chance.choice((0o700, 0o755))
            return f"chmod {one} {mode:o}", lambda: driver.set(one, mode=mode), lambda: os.chmod(real, mode)
        case "link" if kind and not stat.S_ISDIR(kind):
            return (
                f"link {one} {two}",
                lambda: driver.link(one, two),
                lambda: os.link(real, other, follow_symlinks=False),
            )
        case "rename" if not f"{two}/".startswith(f"{one}/") and not f"{one}/".startswith(f"{two}/"):
            flags = chance.choice((0, 0, paths.RENAME_NOREPLACE, paths.RENAME_EXCHANGE))
            return (
                f"rename {one} {two} {flags}",
                lambda: driver.rename(one, two, flags),
                lambda: plain_rename(top, one, two, flags),
            )
    return None


def play(stage: Stage, seed: int) -> None:
    """One game: random layers, random operations, a look at both sides after each, and again after a restart."""
    chance = random.Random(seed)
    lowers = (
        stage.lower(f"top{seed}", random_tree(chance, 2, marks=True)),
        stage.lower(f"bottom{seed}", random_tree(chance, 2, marks=False)),
    )
    shutil.rmtree(stage.upper, ignore_errors=True)
    driver = stage.over(*lowers)
    plain = stage.base / f"plain{seed}"
    copy_out(driver, plain)
    done = []
    for _ in range(STEPS):
        operation = random_operation(chance, driver, plain)
        if operation is None:
            continue
        words, on_overlay, on_plain = operation
        done.append(words)
        assert outcome(on_plain) == outcome(on_overlay), f"{seed}: {done}"
        assert of_directory(plain) == of_overlay(driver), f"{seed}: {done}"
        assert [] == os.listdir(stage.work)
    assert of_directory(plain) == of_overlay(stage.over(*lowers)), f"{seed}: {done}"


@pytest.mark.parametrize(("devices", "xattrs"), [(True, True), (False, True), (True, False), (False, False)])
def test_random_operations_mean_the_same(
    stage: Stage, count: Count, monkeypatch: pytest.MonkeyPatch, devices: bool, xattrs: bool
) -> None:
    """Errors, names, types, link counts, modes and contents agree with those of a plain directory throughout.

    Whichever marks the upper's file system allows for.
    """
    monkeypatch.setattr(Work, "_probe_devices", lambda work: devices)
    monkeypatch.setattr(Work, "_probe_xattrs", lambda work: xattrs)
    for seed in range(count(40, 1000)):
        play(stage, seed)
        stage.close()
