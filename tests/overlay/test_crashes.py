"""A server that is killed at any moment leaves a layer in which every file is as it was before or after the request."""

from __future__ import annotations

import errno
import hashlib
import itertools
import mmap
import os
import shutil
import signal
import stat
import sys
from typing import TYPE_CHECKING, TypeAlias

import pytest

from fuse_overlay.creation import Caller
from tests.overlay.conftest import Driver, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from fuse_overlay.config import Lower
    from tests.conftest import Count

    Request: TypeAlias = Callable[[Driver], object]

EXCHANGE = 2
WORD = 8
OLD = 1_000_000_000

_MAKING = {"link", "mkdir", "mknod", "open", "rename", "setxattr", "symlink"}
FALLIBLE = {
    errno.ENOSPC: _MAKING | {"copy_file_range", "pwrite"},
    errno.EDQUOT: _MAKING | {"copy_file_range", "pwrite"},
    errno.EIO: _MAKING
    | {"chmod", "copy_file_range", "fstat", "ftruncate", "getxattr", "listdir", "listxattr", "lseek", "pread", "pwrite"}
    | {"readlink", "removexattr", "rmdir", "scandir", "stat", "unlink", "utime"},
    errno.EMFILE: {"open"},
}

# Path: type and mode, owner, size, content or target or entries, attributes.
Picture: TypeAlias = "dict[str, tuple[object, ...]]"

BELOW = {
    "f": b"f" * 10_000,
    "g": b"g",
    "one": {"a": b"a", "b": b"b" * 5000, "two": {"c": b"c", "three": {"d": b"d"}}},
    "empty": {},
    "taken": {"x": b"x"},
    "link": "f",
}


def write(path: str, content: bytes, offset: int = 0) -> Request:
    """Write to a file that is there."""

    def act(driver: Driver) -> None:
        fd = driver.overlay.open(driver.ino(path), os.O_RDWR).handle
        driver.overlay.write(fd, content, offset)
        driver.overlay.release(fd)

    return act


def create(path: str, mode: int = 0o644, uid: int = 0) -> Request:
    """Make an empty file."""
    return lambda driver: driver.overlay.release(
        driver.overlay.create(*driver.split(path), mode, os.O_RDWR, Caller(uid, uid))[0].handle
    )


REQUESTS: list[Request] = [
    write("f", b"F"),
    create("new"),
    write("new", b"n" * 5000),
    create("owned", 0o4755, 7),
    lambda driver: driver.mkdir("dir", 0o2750, 3, 4),
    lambda driver: driver.symlink("dir/sym", b"target"),
    lambda driver: driver.set("g", mode=0o600),
    lambda driver: driver.set("one/a", uid=5, gid=6),
    lambda driver: driver.set("one/b", size=100),
    lambda driver: driver.set("owned", mode=0o700),
    lambda driver: driver.set("owned", uid=0, gid=0),
    lambda driver: driver.overlay.setxattr(driver.ino("one/two/c"), b"user.a", b"b"),
    lambda driver: driver.link("one/two/c", "hard"),
    write("hard", b"h"),
    lambda driver: driver.rename("one/two", "one/2"),
    lambda driver: driver.rename("new", "g"),
    lambda driver: driver.rename("taken", "one", EXCHANGE),
    lambda driver: driver.unlink("f"),
    create("f"),
    lambda driver: driver.rmdir("empty"),
    lambda driver: driver.mkdir("empty"),
    lambda driver: driver.rename("dir", "empty"),
    lambda driver: driver.unlink("one/x"),
    lambda driver: driver.rename("taken/2/three", "one/x"),
    lambda driver: driver.rename("one", "moved"),
    lambda driver: driver.unlink("moved/x/d"),
    lambda driver: driver.overlay.mknod(*driver.split("fifo"), stat.S_IFIFO | 0o620, Caller(1, 2)),
    lambda driver: driver.set("fifo", uid=9),
    lambda driver: driver.rename("fifo", "link"),
    lambda driver: driver.overlay.removexattr(driver.ino("hard"), b"user.a"),
    lambda driver: driver.unlink("taken/2/c"),
    write("hard", b"hh"),
]  # fmt: skip


def planted(stage: Stage) -> Lower:
    """The lower layer of these tests: of odd modes, and old."""
    lower = stage.lower("lower", BELOW)  # type: ignore[arg-type]  # dict is invariant
    for path in (stage.base / "lower").rglob("*"):
        if not path.is_symlink():
            path.chmod(0o2751 if path.is_dir() else 0o751)
        os.utime(path, (OLD, OLD), follow_symlinks=False)
    return lower


def picture(driver: Driver) -> Picture:
    """All that is shown of the tree, but for numbers, and times of what was changed."""
    found: Picture = {}
    waiting = [""]
    while waiting:
        path = waiting.pop()
        entry = driver.entry(path)
        kind = entry.node.kind
        content: object = None
        if kind == stat.S_IFDIR:
            content = tuple(driver.ls(path))
            waiting += [f"{path}/{name}".lstrip("/") for name in driver.ls(path)]
        elif kind == stat.S_IFREG:
            content = hashlib.sha256(driver.read(path)).hexdigest()[:8]
        elif kind == stat.S_IFLNK:
            content = driver.overlay.readlink(entry.node.ino)
        size = 0 if kind == stat.S_IFDIR else entry.st.st_size
        listed = sorted(driver.overlay.listxattr(entry.node.ino)) if kind in (stat.S_IFREG, stat.S_IFDIR) else []
        values = tuple((name, driver.overlay.getxattr(entry.node.ino, name)) for name in listed)
        nlink = entry.nlink if kind == stat.S_IFREG else 0
        mtime = entry.st.st_mtime_ns if entry.st.st_mtime == OLD else 0
        found[path] = (kind, tuple(entry.owner), nlink, size, content, values, mtime)
    return found


def pictures(stage: Stage, lower: Lower) -> list[Picture]:
    """What is seen before the first request, and after each."""
    driver = stage.over(lower)
    seen = [picture(driver)]
    for request in REQUESTS:
        request(driver)
        seen.append(picture(driver))
    stage.close()
    return seen


def before_call(number: int, act: Callable[[str], None]) -> Callable[[FrameType, str, object], None]:
    """A profiler (sys.setprofile) that acts before the `number`-th system call by way of the os module.

    `act` is given the function's name. If it raises, that is what comes of the call, which isn't made.
    """
    left = number

    def profile(_frame: FrameType, event: str, what: object) -> None:
        nonlocal left
        if event == "c_call" and getattr(what, "__module__", "") == "posix":
            left -= 1
            if left == 0:
                act(getattr(what, "__name__", ""))

    return profile


def die(_: str) -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def failing(number: int) -> Callable[[str], None]:
    """Let a system call that can fail with this errno do so."""

    def act(called: str) -> None:
        if called in FALLIBLE[number]:
            raise OSError(number, os.strerror(number))

    return act


def killed(stage: Stage, lower: Lower, call: int) -> int | None:
    """Have a process make all requests, killed before its `call`-th system call; how many were done, None for all."""
    config = stage.config(lower)
    done = mmap.mmap(-1, WORD)
    pid = os.fork()
    if pid == 0:
        try:
            driver = stage.drive(config)
            sys.setprofile(before_call(call, die))
            for number, request in enumerate(REQUESTS):
                done[:] = number.to_bytes(WORD)
                request(driver)
            sys.setprofile(None)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if status == 0:
        return None
    assert signal.SIGKILL == os.WTERMSIG(status), status
    return int.from_bytes(done[:])


def differing(seen: Picture, state: Picture) -> dict[str, tuple[object, object]]:
    """The paths that aren't seen as they should be. An old time may be a new one: it is set back last."""

    def is_right(path: str) -> bool:
        one, other = seen.get(path, ()), state.get(path, ())
        return one == other or (one[:-1] == other[:-1] and one[-1:] == (0,))

    return {path: (seen.get(path), state.get(path)) for path in {*seen, *state} if not is_right(path)}


@pytest.fixture(autouse=True)
def _mask() -> Iterator[None]:
    """An overlay sets the umask of its process; what tests make is to have the same mode always."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_killed_at_any_system_call(tmp_path: Path, count: Count) -> None:
    """Wherever it dies, the next mount sees the tree as before or as after the request, and nothing is left over."""
    lower = planted(Stage(tmp_path))
    expected = pictures(Stage(tmp_path), lower)
    wrong = []
    tried = 0
    stride = count(23, 1)
    for call in itertools.count(1, stride):
        os.umask(0o022)
        stage = Stage(tmp_path / "killed")
        stage.base.mkdir()
        done = killed(stage, lower, call)
        if done is None:
            break
        tried += 1
        seen = picture(stage.over(lower))
        left = [name for name in os.listdir(stage.work) if name.startswith("#fuse-overlay-")]
        before, after = (differing(seen, state) for state in expected[done : done + 2])
        if left or (before and after):
            wrong.append((call, done, left, before, after))
        stage.close()
        shutil.rmtree(stage.base)
    assert [] == wrong
    assert tried > 500 // stride


def failed(driver: Driver, call: int, number: int) -> tuple[int, str] | None:
    """Make all requests, the `call`-th system call failing with an errno. Which failed and how; None: none did."""
    sys.setprofile(before_call(call, failing(number)))
    try:
        for done, request in enumerate(REQUESTS):
            try:
                request(driver)
            except OSError as error:
                return done, errno.errorcode[error.errno or 0]
    finally:
        sys.setprofile(None)
    return None


@pytest.mark.parametrize("number", sorted(FALLIBLE), ids=errno.errorcode.get)
def test_errors_from_below(tmp_path: Path, count: Count, number: int) -> None:
    """Whichever call fails, the request has that errno, the tree is as before or as after it, and all goes on."""
    lower = planted(Stage(tmp_path))
    expected = pictures(Stage(tmp_path), lower)
    wrong: list[tuple[object, ...]] = []
    tried = 0
    for call in range(1, 700, count(29, 1)):
        os.umask(0o022)
        stage = Stage(tmp_path / "failed")
        stage.base.mkdir()
        driver = stage.over(lower)
        found = failed(driver, call, number)
        if found is not None:
            tried += 1
            done, error = found
            seen, remounted = picture(driver), picture(stage.over(lower))
            before, after = (differing(remounted, state) for state in expected[done : done + 2])
            left = [name for name in os.listdir(stage.work) if name.startswith("#fuse-overlay-")]
            if error != errno.errorcode[number] or left or (before and after) or differing(seen, remounted):
                wrong.append((call, done, error, left, before, after, differing(seen, remounted)))
            else:
                for request in REQUESTS[done + bool(before) :]:
                    request(driver)
                if differing(picture(driver), expected[-1]):
                    wrong.append((call, done, "later", differing(picture(driver), expected[-1])))
        stage.close()
        shutil.rmtree(stage.base)
    assert [] == wrong
    assert tried > 0


def test_an_open_that_fails_leaves_nothing_open(stage: Stage) -> None:
    """Whichever call fails while a file is opened that has privilege to lose, its descriptor is closed again."""
    driver = stage.over(stage.lower("lower", {}))
    driver.write("f", b"f")
    number = driver.ino("f")

    def open_files() -> list[str]:
        targets = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        return [target for target in targets if target == str(stage.upper / "f")]

    failures = 0
    for call in range(1, 40):
        driver.overlay.setxattr(number, b"security.capability", bytes(20))
        driver.set("f", mode=0o4755)
        sys.setprofile(before_call(call, failing(errno.EIO)))
        try:
            opened = [driver.overlay.open(number, os.O_WRONLY | os.O_TRUNC).handle]
        except OSError:
            opened = []
            failures += 1
        finally:
            sys.setprofile(None)
        assert len(opened) == len(open_files()), call
        for fd in opened:
            driver.overlay.release(fd)
    assert failures > 3


def test_a_close_that_fails(stage: Stage) -> None:
    """A removed file whose last close(2) says EIO is forgotten all the same, and counts no more."""
    driver = stage.drive(stage.config(stage.lower("lower", {}))._replace(bytes_max=1 << 20))
    driver.write("f", b"f")
    fd = driver.overlay.open(driver.ino("f"), os.O_RDONLY).handle
    number = driver.ino("f")
    driver.unlink("f")
    tree = driver.overlay.tree
    driver.overlay.forget(number, tree.node(number).lookups)

    def deny(called: str) -> None:
        assert "close" == called
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    sys.setprofile(before_call(2, deny))  # the first is fstat
    try:
        with pytest.raises(OSError, match="Input/output error"):
            driver.overlay.release(fd)
    finally:
        sys.setprofile(None)
    os.close(fd)
    assert number not in tree.table.nodes
    assert (0, 0) == (tree.quota.bytes, tree.quota.inodes)
