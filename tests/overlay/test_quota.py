"""Limits of the upper, in bytes and inodes."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import stat
from typing import TYPE_CHECKING

import pytest

from fuse_overlay import overlay, quota, usage
from fuse_overlay.creation import Caller
from fuse_overlay.descent import Descent
from fuse_overlay.layers import IN_USE, Budget
from fuse_overlay.work import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Count
    from tests.overlay.conftest import Driver, Mounted, Stage

MEGA = 1 << 20
EXCHANGE = 2


@pytest.fixture(params=[True, False], ids=["descriptors", "no descriptors"])
def _descriptors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether open files can be held open, or have to be opened each time."""
    if not request.param:
        monkeypatch.setattr(overlay, "_descriptors", lambda layers: Budget(IN_USE, 0))


def drive(stage: Stage, *, bytes_max: int | None = MEGA, inodes_max: int | None = None) -> Driver:
    """An overlay with limits over a lower layer with files of 300 KiB and a few directories."""
    contents = {"big": os.urandom(300 << 10), "d": {"f": b"f", "e": {"g": b"g"}}, "l": "big"}
    lower = stage.lower("lower", {} if (stage.base / "lower").exists() else contents)  # type: ignore[arg-type]  # dict is invariant
    return stage.drive(stage.config(lower)._replace(bytes_max=bytes_max, inodes_max=inodes_max))


def counted(stage: Stage) -> tuple[int, int]:
    """The bytes and inodes of the upper, counted anew."""
    upper, work = (os.open(path, os.O_RDONLY) for path in (stage.upper, stage.work))
    try:
        return usage.count(upper, work)
    finally:
        os.close(upper)
        os.close(work)


def make_deep(top: Path, depth: int) -> None:
    """Directories in a directory, one in the other."""
    fd = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


@contextlib.contextmanager
def few_descriptors() -> Iterator[None]:
    """As many as most users have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def used(driver: Driver) -> tuple[int, int]:
    """The bytes and inodes that the overlay thinks it uses."""
    return driver.overlay.tree.quota.bytes, driver.overlay.tree.quota.inodes


def refused(act: Callable[[], object]) -> bool:
    """Whether something is refused with EDQUOT."""
    try:
        act()
    except OSError as error:
        if error.errno != errno.EDQUOT:
            raise
        return True
    return False


def fill(driver: Driver, path: str, size: int, step: int = 64 << 10) -> int:
    """Write a file in pieces until that is refused; returns how many bytes it took."""
    parent, name = driver.split(path)
    fd = driver.overlay.create(parent, name, 0o644, os.O_WRONLY, Caller())[0].handle
    try:
        for offset in range(0, size, step):
            if refused(lambda at=offset: driver.overlay.write(fd, b"x" * step, at)):  # type: ignore[misc]
                return offset
    finally:
        driver.overlay.release(fd)
    return size


@pytest.mark.usefixtures("_descriptors")
def test_writing_ends_at_the_limit(stage: Stage) -> None:
    """Bytes up to the limit are written and no more; what is deleted can be used again."""
    driver = drive(stage)
    assert MEGA == fill(driver, "a", 4 * MEGA)
    assert refused(lambda: driver.write("b", b"x"))
    fd = driver.overlay.open(driver.ino("a"), os.O_WRONLY).handle
    assert not refused(lambda: driver.overlay.write(fd, b"y" * 4096, 8192))  # in place: no space is needed
    assert refused(lambda: driver.overlay.write(fd, b"y" * 4096, 2 * MEGA))
    driver.overlay.release(fd)
    driver.unlink("a")
    assert (0, 0) == used(driver)
    assert MEGA == fill(driver, "b", 4 * MEGA)


@pytest.mark.usefixtures("_descriptors")
def test_deleted_but_open_counts(stage: Stage) -> None:
    """The blocks of a file without a name are free when its last descriptor is closed, and not before."""
    driver = drive(stage)
    fill(driver, "a", MEGA)
    one, other = (driver.overlay.open(driver.ino("a"), flags).handle for flags in (os.O_RDONLY, os.O_RDWR))
    driver.unlink("a")
    assert refused(lambda: driver.write("b", b"x"))
    driver.overlay.release(other)
    assert refused(lambda: driver.write("b", b"x"))
    driver.overlay.release(one)
    driver.write("b", b"x")


def test_copies_count(stage: Stage) -> None:
    """A copy-up needs room for the data that it takes: all of it, or what is left after truncating."""
    driver = drive(stage, bytes_max=200 << 10)
    assert refused(lambda: driver.set("big", mode=0o600))
    assert refused(lambda: driver.link("big", "big 2"))
    assert refused(lambda: driver.rename("big", "big 2"))
    assert not refused(lambda: driver.set("d/e/g", mode=0o600))
    assert not refused(lambda: driver.set("big", size=100 << 10))
    assert 100 << 10 <= used(driver)[0] <= 200 << 10
    assert counted(stage) == used(driver)


def test_inodes(stage: Stage) -> None:
    """Files, directories, links and copies take one each, more names of a file none; removal is never refused."""
    driver = drive(stage, bytes_max=None, inodes_max=3)
    driver.mkdir("x")
    driver.symlink("x/l", b"target")
    driver.write("x/f", b"")
    driver.link("x/f", "x/g")
    assert refused(lambda: driver.mkdir("y"))
    assert refused(lambda: driver.set("big", mode=0o600))
    driver.unlink("d/e/g")  # leaves a whiteout in two directories that are copied up
    driver.unlink("x/g")
    driver.unlink("x/l")
    driver.rename("x/f", "x/h")
    assert refused(lambda: driver.mkdir("y"))  # the two directories
    driver.unlink("x/h")
    driver.rmdir("x")
    assert not refused(lambda: driver.mkdir("y"))


def test_attributes_need_room(stage: Stage) -> None:
    """An extended attribute is refused where bytes are used up."""
    driver = drive(stage)
    fill(driver, "a", MEGA)
    assert refused(lambda: driver.overlay.setxattr(driver.ino("a"), b"user.a", b"x" * 4000))
    driver.set("a", size=0)
    driver.overlay.setxattr(driver.ino("a"), b"user.a", b"x" * 1000)
    assert counted(stage) == used(driver)


def test_statfs_shows_what_is_left(stage: Stage) -> None:
    """Of blocks and inodes."""
    driver = drive(stage, inodes_max=10)
    fill(driver, "a", MEGA // 2, MEGA // 4)
    given = driver.overlay.statfs()
    assert (MEGA, MEGA // 2) == (given.f_blocks * given.f_frsize, given.f_bavail * given.f_frsize)
    assert (10, 9) == (given.f_files, given.f_favail)


def test_what_is_used_survives(stage: Stage) -> None:
    """The next mount knows what the upper holds: by the last one's note, by counting where that was killed."""
    driver = drive(stage)
    fill(driver, "a", MEGA // 2)
    driver.mkdir("x")
    held = used(driver)
    assert held == used(drive(stage))  # the first one is still there: as if it had been killed
    stage.close()
    (stage.upper / "outside").write_bytes(b"x" * 8192)  # by which is seen that nobody counted
    assert held == used(drive(stage))
    assert (held[0] + 8192, held[1] + 1) == used(drive(stage))
    stage.close()
    stage.drive(stage.config(stage.lower("lower", {}))).unlink("outside")
    stage.close()
    assert held == used(drive(stage))  # a mount without limits, which doesn't count, has left no note


def test_a_deep_tree_is_counted(stage: Stage) -> None:
    """After a kill, too, when it is deeper than Python recurses and than there are descriptors; so it is removed."""
    config = stage.config(stage.lower("lower", {}))._replace(bytes_max=1 << 30)
    depth = 5000
    make_deep(stage.upper, depth)
    above = os.open(stage.base, os.O_RDONLY)
    try:
        with few_descriptors():
            assert (depth * quota.DIRECTORY, depth) == counted(stage)
        assert (depth * quota.DIRECTORY, depth) == used(stage.drive(config))
    finally:
        with few_descriptors():
            remove_tree(above, b"upper")
        os.close(above)
    assert not stage.upper.exists()


def test_a_tree_that_is_moved_while_it_is_walked(tmp_path: Path) -> None:
    """Who comes up to another directory than the one that they went down from, goes no further."""
    make_deep(tmp_path, 200)
    directory = os.open(tmp_path, os.O_RDONLY)
    for moved in (False, True):
        with Descent(directory, b"d") as way:
            for _ in range(199):
                way.enter(b"d")
            if moved:
                os.rename(tmp_path.joinpath(*["d"] * 130), tmp_path / "elsewhere")
            left = 0
            with contextlib.suppress(OSError) if moved else contextlib.nullcontext():
                while left < 199:
                    way.leave()
                    left += 1
            assert (70 if moved else 199) == left
            assert moved or os.fstat(way.fd).st_ino == (tmp_path / "d").stat().st_ino
    os.close(directory)


@pytest.mark.parametrize(
    "damage", [b"", b"fuse-overlay usage 1: 5 bytes", b"fuse-overlay usage 1: -5 bytes, 1 inodes\n"]
)
def test_a_damaged_note_means_nothing(stage: Stage, damage: bytes) -> None:
    """Then the upper is counted."""
    drive(stage).write("a", b"x")
    held = counted(stage)
    stage.close()
    (stage.work / "#fuse-overlay.usage").write_bytes(damage)
    assert held == used(drive(stage))


def changes(driver: Driver, chance: random.Random, one: str, other: str) -> list[Callable[[], object]]:
    """Every kind of change, of one path or of two."""
    return [
        lambda: fill(driver, one, chance.randrange(300_000), 30_000),
        lambda: driver.write(one, b""),
        lambda: driver.unlink(one),
        lambda: driver.rmdir(one),
        lambda: driver.mkdir(one),
        lambda: driver.symlink(one, b"t" * chance.randrange(1, 200)),
        lambda: driver.link(one, other),
        lambda: driver.rename(one, other),
        lambda: driver.rename(one, other, EXCHANGE),
        lambda: driver.set(one, size=chance.randrange(100_000)),
        lambda: driver.set(one, mode=chance.randrange(0o777)),
        lambda: driver.overlay.setxattr(driver.ino(one), b"user.x", b"x" * chance.randrange(1, 900)),
    ]


@pytest.mark.usefixtures("_descriptors")
def test_nothing_is_lost_or_counted_twice(stage: Stage, count: Count) -> None:
    """After each of many random changes, the use is what a count of the upper gives."""
    chance = random.Random(8)
    driver = drive(stage, bytes_max=MEGA, inodes_max=20)
    names = [f"{above}{name}" for above in ("", "d/", "d/e/", "n/") for name in ("big", "f", "g", "n", "l")]
    done = 0
    for step in range(count(600, 20_000)):
        one, other = chance.sample(names, 2)
        with contextlib.suppress(OSError):  # what can't be done, changes nothing
            chance.choice(changes(driver, chance, one, other))()
            done += 1
        assert counted(stage) == used(driver), step
    assert done > count(600, 20_000) // 5
    assert used(driver)[0] <= MEGA + 4096
    assert used(driver)[1] <= 20 + 3  # the lower directories, whose copies removal may need


def test_through_a_mount(mounted: Mounted) -> None:
    """fsync and close tell of what didn't fit, a new file is refused at once, df shows the limit."""
    script = """
    test "$(df --output=size -B 1M . | tail -1)" -eq 1
    says() { "$@" 2>&1 | grep -q 'Disk quota exceeded' || echo not refused: "$@"; }
    set +o pipefail
    says dd if=/dev/zero of=a bs=64K count=100 conv=fsync
    says dd if=/dev/zero of=b bs=1M count=4
    says touch c
    rm -f a b; echo again >c; cat c
    """
    assert "again\n" == mounted.run(script, options=("--bytes-max=1048576",))
    assert stat.S_ISREG((mounted.upper / "c").stat().st_mode)
