"""What changes do to the upper and to the merged tree, without a mount."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest

from fuse_overlay.creation import Caller
from fuse_overlay.kernel import paths
from fuse_overlay.metadata import Wanted
from fuse_overlay.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.overlay.conftest import Driver, Stage


def is_whiteout(path: Path) -> bool:
    """Whether a file of the upper is a character device 0:0."""
    st = path.lstat()
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def assert_errno(number: int, error: pytest.ExceptionInfo[OSError]) -> None:
    """Compare an error's number."""
    assert errno.errorcode[number] == errno.errorcode[error.value.errno or 0]


def test_copy_up_keeps_everything(stage: Stage) -> None:
    """Content, mode, times, user attributes, holes and the inode number survive, and the lower file is as it was."""
    lower = stage.lower("lower", {"d": {"f": b"old"}})
    original = stage.base / "lower" / "d" / "f"
    with original.open("r+b") as file:
        file.truncate(1 << 24)
    original.chmod(0o640)
    os.setxattr(original, "user.colour", b"blue")
    os.setxattr(original, "user.overlay.origin", b"forged")
    os.utime(original, ns=(10**18 + 1, 10**18 + 2))
    before = original.stat()
    driver = stage.over(lower)
    ino = driver.ino("d/f")
    driver.overlay.setxattr(ino, b"user.size", b"big")
    copy = stage.upper / "d" / "f"
    st = copy.stat()
    assert (before.st_size, before.st_mode, before.st_mtime_ns) == (st.st_size, st.st_mode, st.st_mtime_ns)
    assert 1 << 20 > st.st_blocks * 512
    assert b"blue" == os.getxattr(copy, "user.colour")
    assert {b"user.colour", b"user.size"} == set(driver.overlay.listxattr(ino))
    assert "user.overlay.origin" not in os.listxattr(copy)
    assert ino == driver.ino("d/f")
    assert before.st_mtime_ns == original.stat().st_mtime_ns
    assert [] == os.listdir(stage.work)


def test_the_inode_number_outlives_a_restart(stage: Stage) -> None:
    """A copied-up file has the number of its original in a second overlay over the same layers."""
    lower = stage.lower("lower", {"f": b"", "d": {"g": b""}})
    first = stage.over(lower)
    numbers = [first.ino("f"), first.ino("d"), first.ino("d/g")]
    first.write("f", b"new")
    first.write("d/g", b"new")
    again = stage.over(lower)
    assert numbers == [again.ino("f"), again.ino("d"), again.ino("d/g")]


def test_removing_leaves_whiteouts_only_where_needed(stage: Stage) -> None:
    """A lower name gets a whiteout; a name that is the upper's alone leaves nothing."""
    driver = stage.over(stage.lower("lower", {"f": b"", "d": {"x": b""}}))
    driver.write("new", b"")
    driver.unlink("new")
    driver.unlink("f")
    driver.unlink("d/x")
    driver.rmdir("d")
    assert [] == driver.ls()
    assert ["d", "f"] == sorted(os.listdir(stage.upper))
    assert all(is_whiteout(stage.upper / name) for name in "df")
    driver.write("f", b"again")
    driver.mkdir("d")
    assert b"again" == driver.read("f")
    assert [] == driver.ls("d")
    assert [] == os.listdir(stage.work)


def test_a_directory_with_visible_entries_stays(stage: Stage) -> None:
    """rmdir is ENOTEMPTY as long as any layer shows something."""
    driver = stage.over(stage.lower("lower", {"d": {"a": b"", "b": b""}}))
    driver.unlink("d/a")
    with pytest.raises(OSError, match="not empty"):
        driver.rmdir("d")
    driver.unlink("d/b")
    driver.rmdir("d")
    assert not driver.exists("d")


def test_renaming_a_merged_directory(stage: Stage) -> None:
    """A directory of two layers moves with all it has; its old name is free and its inode number stays."""
    top = stage.lower("top", {"d": {"a": b"a", "sub": {"x": b"x"}}})
    bottom = stage.lower("bottom", {"d": {"b": b"b", "sub": {"y": b"y"}, "gone": b""}, "e": {"old": b""}})
    driver = stage.over(top, bottom)
    driver.unlink("d/gone")
    driver.unlink("e/old")
    ino, inner = driver.ino("d"), driver.ino("d/sub/y")
    driver.rename("d", "e")
    assert ["e"] == driver.ls()
    assert ["a", "b", "sub"] == driver.ls("e")
    assert ["x", "y"] == driver.ls("e/sub")
    assert (ino, inner) == (driver.ino("e"), driver.ino("e/sub/y"))
    again = stage.over(top, bottom)
    assert ["e"] == again.ls()
    assert ["x", "y"] == again.ls("e/sub")
    assert b"y" == again.read("e/sub/y")
    driver.mkdir("d")
    assert [] == driver.ls("d")


def test_renaming_files(stage: Stage) -> None:
    """A rename replaces, NOREPLACE refuses to, EXCHANGE swaps files and directories of any layer."""
    driver = stage.over(stage.lower("lower", {"a": b"a", "b": b"b", "d": {"x": b"x"}}))
    driver.rename("a", "b")
    assert (["b", "d"], b"a") == (driver.ls(), driver.read("b"))
    with pytest.raises(OSError, match="exists") as error:
        driver.rename("b", "d", paths.RENAME_NOREPLACE)
    assert_errno(errno.EEXIST, error)
    driver.rename("b", "d", paths.RENAME_EXCHANGE)
    assert (b"a", ["x"]) == (driver.read("d"), driver.ls("b"))
    again = stage.over(stage.lower("lower", {}))
    assert (b"a", ["x"]) == (again.read("d"), again.ls("b"))
    with pytest.raises(OSError, match="Invalid"):
        driver.rename("b", "d", 64)


@pytest.mark.parametrize("devices", [True, False])
def test_names_too_long_for_a_mark(stage: Stage, monkeypatch: pytest.MonkeyPatch, devices: bool) -> None:
    """Lower files of 255 bytes' names can be removed and renamed where whiteouts are `.wh.` files, too."""
    monkeypatch.setattr(Work, "_probe_devices", lambda work: devices)
    one, two, three, new = ("d/" + letter * 255 for letter in "abcn")
    lower = stage.lower("lower", {"d": {one[2:]: b"x", two[2:]: b"x", three[2:]: {}, "other": b"o"}})
    driver = stage.over(lower)
    driver.unlink(one)
    driver.rename(two, new)
    driver.rmdir(three)
    for overlay in (driver, stage.over(lower)):
        assert sorted(["other", new[2:]]) == overlay.ls("d")
        assert (b"x", b"o") == (overlay.read(new), overlay.read("d/other"))


def test_renaming_over_a_whiteout(stage: Stage) -> None:
    """A directory can take a name that the upper has a whiteout for, and hides what is below it."""
    driver = stage.over(stage.lower("lower", {"d": {"old": b""}, "f": b""}))
    driver.mkdir("new")
    driver.write("new/file", b"")
    driver.unlink("d/old")
    driver.rmdir("d")
    driver.rename("new", "d")
    assert ["file"] == driver.ls("d")
    assert ["d", "f"] == driver.ls()
    driver.unlink("f")
    driver.rename("d", "f")
    assert (["f"], ["file"]) == (driver.ls(), driver.ls("f"))
    again = stage.over(stage.lower("lower", {}))
    assert (["f"], ["file"]) == (again.ls(), again.ls("f"))


def test_what_a_rename_refuses(stage: Stage) -> None:
    """Types must agree, and a directory that isn't empty isn't replaced."""
    driver = stage.over(stage.lower("lower", {"d": {"x": b""}, "e": {}, "f": b""}))
    for old, new, number in (
        ("f", "d", errno.EISDIR),
        ("e", "f", errno.ENOTDIR),
        ("e", "d", errno.ENOTEMPTY),
        ("none", "x", errno.ENOENT),
    ):
        with pytest.raises(OSError, match=os.strerror(number)) as error:
            driver.rename(old, new)
        assert_errno(number, error)


def test_hard_links(stage: Stage) -> None:
    """A linked file is one file under both names, whichever layer it came from."""
    driver = stage.over(stage.lower("lower", {"f": b"old"}))
    driver.link("f", "g")
    assert driver.ino("f") == driver.ino("g")
    assert 2 == driver.entry("g").nlink
    driver.write("g", b"new")
    assert b"new" == driver.read("f")
    driver.unlink("f")
    assert (b"new", 1) == (driver.read("g"), driver.entry("g").nlink)


def test_known_names_of_a_lower_file_stay_one_file(stage: Stage) -> None:
    """A copy-up takes along the other names that the kernel knows the file by."""
    lower = stage.lower("lower", {"f": b"old", "d": {}})
    os.link(stage.base / "lower" / "f", stage.base / "lower" / "d" / "g")
    driver = stage.over(lower)
    assert driver.ino("f") == driver.ino("d/g")
    driver.write("d/g", b"new")
    assert b"new" == driver.read("f")
    assert 2 == driver.entry("f").nlink


def test_an_open_file_without_a_name_lives_on(stage: Stage) -> None:
    """A lower file that is open when its name goes can be read, changed and asked for its attributes."""
    driver = stage.over(stage.lower("lower", {"f": b"content"}))
    ino = driver.ino("f")
    fd = driver.overlay.open(ino, os.O_RDONLY).handle
    driver.unlink("f")
    assert 0 == driver.overlay.getattr(ino).nlink
    driver.overlay.setattr(ino, Wanted(mode=0o600))
    assert 0o600 == driver.overlay.getattr(ino).owner.mode
    assert b"content" == os.pread(fd, 100, 0)
    driver.overlay.release(fd)
    assert [] == os.listdir(stage.work)


def test_a_reader_sees_what_is_written_after_copy_up(stage: Stage) -> None:
    """A descriptor that was opened on the lower file stands for the copy once there is one."""
    driver = stage.over(stage.lower("lower", {"f": b"old"}))
    fd = driver.overlay.open(driver.ino("f"), os.O_RDONLY).handle
    driver.write("f", b"new")
    assert b"new" == os.pread(fd, 100, 0)
    driver.overlay.release(fd)


def test_unreadable_files(stage: Stage) -> None:
    """Without its data a file can be emptied or replaced, but not read or kept."""
    lower = stage.lower("lower", {"f": b"secret", "g": b"secret", "empty": b""})
    for name in ("f", "g", "empty"):
        (stage.base / "lower" / name).chmod(0)
    driver = stage.over(lower)
    with pytest.raises(PermissionError):
        driver.read("f")
    with pytest.raises(PermissionError):
        driver.set("f", mode=0o600)
    driver.set("f", size=0)
    driver.write("g", b"mine")
    driver.set("empty", mode=0o600)
    assert (b"", b"mine", b"") == tuple(driver.read(name) for name in ("f", "g", "empty"))
    assert [] == os.listdir(stage.work)


def test_owners_and_modes_are_records(stage: Stage) -> None:
    """chown, setuid and unreadable modes show, outlive a restart, and never reach the real file."""
    lower = stage.lower("lower", {"f": b"", "d": {}})
    driver = stage.over(lower)
    driver.set("f", uid=12, gid=34)
    driver.set("f", mode=0o4000)
    driver.set("d", mode=0o1777)
    real = (stage.upper / "f").stat()
    assert (os.getuid(), 0o600) == (real.st_uid, stat.S_IMODE(real.st_mode))
    assert b"12:34:04000" == os.getxattr(stage.upper / "f", "user.containers.override_stat")
    again = stage.over(lower)
    assert (12, 34, 0o4000) == again.entry("f").owner
    assert 0o1777 == again.entry("d").owner.mode
    again.set("f", uid=0, gid=0)
    again.set("f", mode=0o644)
    assert "user.containers.override_stat" not in os.listxattr(stage.upper / "f")
    assert (0, 0, 0o644) == again.entry("f").owner


def test_a_new_owner_takes_setuid_away(stage: Stage) -> None:
    """chown clears setuid, and setgid of what is executable by the group."""
    driver = stage.over(stage.lower("lower", {"f": b""}))
    driver.set("f", mode=0o6755)
    driver.set("f", uid=5)
    assert 0o755 == driver.entry("f").owner.mode


def test_setgid_directories(stage: Stage) -> None:
    """What is made in a setgid directory has its group, and directories the bit."""
    driver = stage.over(stage.lower("lower", {"d": {}}))
    driver.set("d", gid=77)
    driver.set("d", mode=0o2755)
    driver.mkdir("d/e", uid=5, gid=6)
    driver.write("d/f", b"")
    assert (5, 77, 0o2755) == driver.entry("d/e").owner
    assert 77 == driver.entry("d/f").owner.gid


def test_ids_that_do_not_exist_inside(stage: Stage) -> None:
    """An id without a mapping can't be set, and is never shown."""
    config = stage.config(stage.lower("lower", {"f": b""}))
    config = config._replace(uids=config.uids[:0], gids=config.gids[:0])
    driver = stage.drive(config)
    assert (0, 0) == driver.entry("f").owner[:2]
    with pytest.raises(OSError, match="Invalid"):
        driver.set("f", uid=1)


def test_symbolic_links_and_fifos(stage: Stage) -> None:
    """They can be made, copied up, renamed and given another owner."""
    lower = stage.lower("lower", {"l": "target"})
    os.mkfifo(stage.base / "lower" / "p")
    driver = stage.over(lower)
    driver.set("l", uid=3, gid=3)
    driver.rename("p", "q")
    driver.symlink("m", b"x" * 3000)
    assert b"target" == driver.overlay.readlink(driver.ino("l"))
    assert 3 == driver.entry("l").owner.uid
    assert stat.S_IFIFO == driver.entry("q").node.kind
    assert b"x" * 3000 == driver.overlay.readlink(driver.ino("m"))
    with pytest.raises(PermissionError):
        driver.overlay.mknod(1, b"dev", stat.S_IFCHR | 0o600, Caller())


def test_marks_cannot_be_forged(stage: Stage) -> None:
    """Names and attributes that mean something in a layer are refused and unseen."""
    driver = stage.over(stage.lower("lower", {"f": b"", "d": {}}))
    attempts: list[Callable[[], object]] = [
        lambda: driver.write(".wh.f", b""),
        lambda: driver.mkdir(".wh..wh..opq"),
        lambda: driver.rename("f", ".wh.f"),
        lambda: driver.link("f", "d/.wh.x"),
        lambda: driver.overlay.setxattr(driver.ino("d"), b"user.overlay.opaque", b"y"),
        lambda: driver.overlay.setxattr(driver.ino("f"), b"user.containers.override_stat", b"0:0:04755"),
    ]
    for attempt in attempts:
        with pytest.raises(PermissionError):
            attempt()
    driver.set("f", uid=9)
    assert [] == driver.overlay.listxattr(driver.ino("f"))
    with pytest.raises(OSError, match="No data"):
        driver.overlay.getxattr(driver.ino("f"), b"user.containers.override_stat")


def test_a_read_only_overlay(stage: Stage) -> None:
    """Without an upper everything can be read and every change is EROFS."""
    config = stage.config(stage.lower("lower", {"f": b"x", "d": {}}))
    driver = stage.drive(config._replace(upper=None, work=None))
    assert b"x" == driver.read("f")
    attempts: list[Callable[[], object]] = [
        lambda: driver.write("f", b""),
        lambda: driver.mkdir("e"),
        lambda: driver.rmdir("d"),
        lambda: driver.set("f", mode=0),
    ]
    for attempt in attempts:
        with pytest.raises(OSError, match="Read-only"):
            attempt()


def test_a_changed_host_file_is_another_file(stage: Stage) -> None:
    """On a live lower a new look-up after a change gives a new inode number; without a change the same one."""
    driver = stage.over(stage.lower("host", {"f": b"old"}, layer=False, live=True))
    before = driver.ino("f")
    assert before == driver.ino("f")
    (stage.base / "host" / "f").write_bytes(b"new content")
    assert before != driver.ino("f")
    assert b"new content" == driver.read("f")


def test_forgotten_nodes_leave_the_table(stage: Stage) -> None:
    """When the kernel forgets all it looked up, only the root is left."""
    driver = stage.over(stage.lower("lower", {"a": {"b": {"c": b""}}, "d": b""}))
    for path in ("a/b/c", "d", "a/b/c"):
        driver.read(path)
    table = driver.overlay.tree.table
    assert 5 == len(table)
    for node in list(table.nodes.values()):
        driver.overlay.forget(node.ino, node.lookups)
    assert 1 == len(table)


def test_listing_while_entries_change(stage: Stage) -> None:
    """A directory read in pieces while files come and go: nothing twice, what stays is there."""
    driver = stage.over(stage.lower("lower", {f"f{number}": b"" for number in range(50)}))
    handle = driver.overlay.opendir(1)
    seen = []
    for name, _, cookie in driver.overlay.readdir(handle, 0):
        seen.append(name)
        if cookie == 20:
            break
    for number in range(0, 50, 2):
        driver.unlink(f"f{number}")
    driver.write("new", b"")
    seen += [name for name, _, _ in driver.overlay.readdir(handle, 20)]
    assert len(seen) == len(set(seen))
    assert {b"f%d" % number for number in range(1, 50, 2)} <= set(seen)


def test_random_churn_leaves_nothing(stage: Stage) -> None:
    """After making, renaming and removing over and over, a directory can be removed."""
    driver = stage.over(stage.lower("lower", {"d": {str(number): b"" for number in range(10)}}))
    _churn(driver, 30)
    for name in driver.ls("d"):
        driver.unlink(f"d/{name}")
    driver.rmdir("d")
    assert not driver.exists("d")


def _churn(driver: Driver, rounds: int) -> None:
    for number in range(rounds):
        driver.write(f"d/new{number}", b"")
        driver.rename(f"d/new{number}", f"d/{number % 10}")
        driver.unlink(f"d/{number % 10}")
        driver.write(f"d/{number % 7}", b"x")
