"""Owners and attributes of files that can't have any: in indexes, which survive whatever becomes of the layer."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fuse_overlay import index, indexes, layers, ownership
from fuse_overlay.creation import Caller
from fuse_overlay.kernel import paths
from fuse_overlay.ownership import Device, Owner
from fuse_overlay.work import Work

if TYPE_CHECKING:
    from pathlib import Path

    from tests.overlay.conftest import Driver, Mounted, Stage

XATTR = ownership.XATTR
NULL = Device(stat.S_IFCHR, os.makedev(1, 3))


@pytest.fixture(params=[True, False], ids=["xattrs", "no xattrs"])
def xattrs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether files of layers can have attributes: both in turn."""
    if not request.param:
        monkeypatch.setattr(Work, "_probe_xattrs", lambda work: False)
        monkeypatch.setattr(layers, "_has_xattrs", lambda directory: False)
    return bool(request.param)


def directory_of(path: Path) -> int:
    """A descriptor of a directory, which ends with the test run."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY)


def image(stage: Stage) -> None:
    """A layer as an unpacker makes it, with records for what can't carry them: `lower`."""
    top = stage.base / "lower"
    stage.lower("lower", {"d": {"link": "target", "null": b"", "file": b"x"}})
    os.mkfifo(top / "d" / "pipe")
    indexes.write(directory_of(top), {})
    indexes.write(
        directory_of(top / "d"),
        {
            b"link": {XATTR: ownership.format_record(Owner(5, 6, 0o777))},
            b"pipe": {XATTR: ownership.format_record(Owner(7, 8, 0o622))},
            b"null": {XATTR: ownership.format_record(Owner(0, 9, 0o666), NULL)},
            b"file": {XATTR: ownership.format_record(Owner(3, 4, 0o4755))},
        },
    )


def odd_files(driver: Driver) -> None:
    """Make files whose owners need a record: a symbolic link, a FIFO, a file and a directory."""
    driver.mkdir("d", uid=1, gid=2)
    driver.symlink("d/link", b"target")
    driver.overlay.mknod(driver.ino("d"), b"pipe", stat.S_IFIFO | 0o600, Caller(3, 4))
    driver.overlay.mknod(driver.ino("d"), b"socket", stat.S_IFSOCK | 0o600, Caller(3, 4))
    driver.write("d/file", b"content")
    driver.set("d/link", uid=5, gid=6)
    driver.set("d/file", uid=7, gid=8)
    driver.set("d/file", mode=0o4711)


def assert_odd(driver: Driver, top: str = "d") -> None:
    """See that all owners are as `odd_files` made them."""
    assert Owner(1, 2, 0o755) == driver.entry(top).owner
    assert (5, 6) == driver.entry(f"{top}/link").owner[:2]
    assert (Owner(3, 4, 0o600), Owner(3, 4, 0o600)) == tuple(
        driver.entry(f"{top}/{name}").owner for name in ("pipe", "socket")
    )
    assert Owner(7, 8, 0o4711) == driver.entry(f"{top}/file").owner


def test_owners_outlive_a_restart(stage: Stage, xattrs: bool) -> None:
    """Whatever the type, a second overlay over the same layers shows the same owners."""
    odd_files(stage.over(stage.lower("lower", {})))
    assert_odd(stage.over(stage.lower("lower", {})))


def test_owners_move_with_directory_and_layer(stage: Stage, xattrs: bool) -> None:
    """A directory that is renamed keeps its records, and so does a layer that is moved or copied."""
    driver = stage.over(stage.lower("lower", {}))
    driver.mkdir("above")
    odd_files(driver)
    driver.rename("d", "above/e")
    assert_odd(driver, "above/e")
    stage.close()
    moved = stage.base / "moved"
    subprocess.run(["cp", "-a", stage.upper, moved], check=True)
    shutil.rmtree(stage.upper)
    os.rename(moved, stage.upper)
    again = stage.over(stage.lower("lower", {}))
    assert_odd(again, "above/e")
    again.set("above/e/link", uid=9)
    again.set("above/e/link", uid=5)
    assert_odd(stage.over(stage.lower("lower", {})), "above/e")


def test_records_follow_renames_and_links(stage: Stage, xattrs: bool) -> None:
    """A record goes where its file goes, replaces the one of what was there, and is gone with the last name."""
    driver = stage.over(stage.lower("lower", {"e": {}}))
    odd_files(driver)
    driver.symlink("e/other", b"x")
    driver.set("e/other", uid=11)
    driver.rename("d/link", "e/other")
    driver.rename("d/pipe", "e/socket")
    driver.rename("d/socket", "e/socket", paths.RENAME_EXCHANGE)
    driver.link("e/other", "e/second")
    driver.set("e/other", uid=12)
    for shown in (driver, stage.over(stage.lower("lower", {}))):
        assert [12, 12, 3, 3] == [
            shown.entry(path).owner.uid for path in ("e/other", "e/second", "e/socket", "d/socket")
        ]
    for path in ("e/other", "e/second"):  # whichever is looked up first
        assert 12 == stage.over(stage.lower("lower", {})).entry(path).owner.uid
    for path in ("e/other", "e/second"):
        driver.unlink(path)
    driver.symlink("e/other", b"new")
    assert (0, 0) == driver.entry("e/other").owner[:2]
    assert (0, 0) == stage.over(stage.lower("lower", {})).entry("e/other").owner[:2]


def test_an_images_records(stage: Stage, xattrs: bool) -> None:
    """What an unpacker wrote for links, FIFOs and devices is shown, through a restart and a copy-up too."""
    image(stage)
    if xattrs:
        os.setxattr(stage.base / "lower" / "d" / "null", XATTR, ownership.format_record(Owner(0, 9, 0o666), NULL))
        os.setxattr(stage.base / "lower" / "d" / "file", XATTR, ownership.format_record(Owner(3, 4, 0o4755)))
    lower = stage.lower("lower", {})
    driver = stage.over(lower)

    def assert_shown(shown: Driver, null: str) -> None:
        assert [Owner(5, 6, 0o777), Owner(7, 8, 0o622), Owner(3, 4, 0o4755)] == [
            shown.entry(f"d/{name}").owner for name in ("link", "pipe", "file")
        ]
        node = shown.entry(null).node
        assert (NULL, Owner(0, 9, 0o666)) == (node.device, shown.entry(null).owner)

    assert_shown(driver, "d/null")
    numbers = [driver.ino(f"d/{name}") for name in ("link", "pipe", "null")]
    for name in ("link", "pipe", "null", "file"):
        driver.set(f"d/{name}", mtime=1)
    driver.rename("d/null", "null")
    for shown in (driver, stage.over(lower)):
        assert_shown(shown, "null")
        assert numbers == [shown.ino(path) for path in ("d/link", "d/pipe", "null")]
    driver.set("null", mode=0o600)
    assert (NULL, 0o600) == (driver.entry("null").node.device, stage.over(lower).entry("null").owner.mode)


def test_a_device_cannot_be_opened_without_the_kernel(stage: Stage) -> None:
    """The placeholder of a device is no file that can be read or written."""
    image(stage)
    os.setxattr(stage.base / "lower" / "d" / "null", XATTR, ownership.format_record(Owner(0, 9, 0o666), NULL))
    driver = stage.over(stage.lower("lower", {}))
    with pytest.raises(OSError, match="No such device"):
        driver.read("d/null")
    assert b"x" == driver.read("d/file")


def test_indexes_are_unseen_and_cannot_be_forged(stage: Stage, xattrs: bool) -> None:
    """An index isn't listed or found, can't be made or renamed to, and doesn't keep a directory from being removed."""
    driver = stage.over(stage.lower("lower", {}))
    odd_files(driver)
    assert (stage.upper / "d" / os.fsdecode(index.NAME)).exists()
    assert ["file", "link", "pipe", "socket"] == driver.ls("d")
    assert not driver.exists(f"d/{os.fsdecode(index.NAME)}")
    with pytest.raises(PermissionError):
        driver.write(f"d/{os.fsdecode(index.NAME)}", b"")
    with pytest.raises(PermissionError):
        driver.rename("d/file", f"d/{os.fsdecode(index.NAME)}")
    for name in driver.ls("d"):
        driver.unlink(f"d/{name}")
    driver.rmdir("d")
    assert ([], []) == (driver.ls(), os.listdir(stage.work))


def test_a_plain_tree_has_no_records(stage: Stage) -> None:
    """In a plain lower directory an index is a file like any other, and means nothing."""
    image(stage)
    driver = stage.over(stage.lower("lower", {}, layer=False))
    assert (0, 0) == driver.entry("d/link").owner[:2]
    assert os.fsdecode(index.NAME) in driver.ls("d")


def test_a_real_device_is_copied_up_as_a_record(stage: Stage) -> None:
    """The copy of a device node of a plain tree is an empty file, and shows as the node that it was."""
    driver = stage.over(stage.lower("host", {"null": None}, layer=False, live=True))
    expected = Device(stat.S_IFCHR, 0)
    assert expected == driver.entry("null").device
    driver.set("null", mode=0o640)
    assert (stage.upper / "null").is_file()
    for shown in (driver, stage.over(stage.lower("host2", {}))):
        assert (expected, 0o640) == (shown.entry("null").device, shown.entry("null").owner.mode)


def test_a_half_written_record_does_no_harm(stage: Stage, xattrs: bool) -> None:
    """After a kill in the middle of a write the earlier records hold, and later ones are found again."""
    driver = stage.over(stage.lower("lower", {}))
    odd_files(driver)
    stage.close()
    place = stage.upper / "d" / os.fsdecode(index.NAME)
    with place.open("ab") as file:
        file.write(b"\x12\x34\x56\x78 half a record")
    again = stage.over(stage.lower("lower", {}))
    assert_odd(again)
    again.symlink("d/new", b"x")
    again.set("d/new", uid=77)
    last = stage.over(stage.lower("lower", {}))
    assert_odd(last)
    assert 77 == last.entry("d/new").owner.uid


def test_a_rename_that_did_not_come_to_its_end(stage: Stage, xattrs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends between record and rename leaves each file with its own owner, under its old name."""
    driver = stage.over(stage.lower("lower", {}))
    for name, uid in (("one", 5), ("two", 6)):
        driver.symlink(name, b"x")
        driver.set(name, uid=uid)
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", lambda *_, **__: _end())
        with pytest.raises(OSError, match="End of the server"):
            driver.rename("one", "two")
    again = stage.over(stage.lower("lower", {}))
    assert [5, 6] == [again.entry(name).owner.uid for name in ("one", "two")]
    again.rename("one", "two")
    assert (["two"], 5) == (again.ls(), stage.over(stage.lower("lower", {})).entry("two").owner.uid)


def _end() -> None:
    raise OSError("End of the server")


def test_a_record_that_was_left_behind_concerns_no_new_file(stage: Stage) -> None:
    """A file that is made where another's record is still in the index, has its own owner, with the same number too."""
    driver = stage.over(stage.lower("lower", {}))
    driver.symlink("known", b"x")
    driver.set("known", uid=5)
    stage.close()
    os.unlink(stage.upper / "known")
    again = stage.over(stage.lower("lower", {}))
    again.symlink("known", b"y")
    assert (0, 0) == stage.over(stage.lower("lower", {})).entry("known").owner[:2]


def test_records_are_kept_small(stage: Stage) -> None:
    """A thousand changes of one owner leave an index of about one record."""
    driver = stage.over(stage.lower("lower", {}))
    driver.symlink("link", b"x")
    for uid in range(1000):
        driver.set("link", uid=uid)
    assert 1 << 15 > (stage.upper / os.fsdecode(index.NAME)).stat().st_size
    assert 999 == stage.over(stage.lower("lower", {})).entry("link").owner.uid


def test_on_a_file_system_without_xattrs(mounted: Mounted) -> None:
    """On ramfs, which has none, owners, special bits and attributes hold through a mount and in the next one."""
    base = mounted.base
    check = (
        "stat -c %u:%g:%a f d l; getfattr --only-values -n user.colour f; echo; "
        'test ! -e .wh..wh.fuse-overlay; test "$(ls -A | tr -d "\\n")" = dfl'
    )
    output = mounted.run_with_ids(
        "touch f; mkdir d; ln -s f l; chown 7:8 f; chmod 4710 f; chown -h 9:9 l; chmod 0 d; chown 5 d; "
        f"setfattr -n user.colour -v blue f; {check}",
        f"{check}; (! setfattr -n user.x -v y {mounted.upper}/f 2>/dev/null); stat -c real:%u:%a {mounted.upper}/f",
        before=f"mount -t ramfs none {base}; mkdir {base}/lower {base}/upper {base}/work {base}/merged",
    )
    expected = "7:8:4710\n5:0:0\n9:9:777\nblue\n"
    assert f"{expected}{expected}real:0:710\n" == output


def test_a_server_that_is_killed_while_it_records(mounted: Mounted) -> None:
    """Owners that were set before the server is killed are all there afterwards, and later ones can be set."""
    places = [str(path) for path in (mounted.lower, mounted.upper, mounted.work)]
    options = "lowerdir={},upperdir={},workdir={}".format(*places)
    serve = f"{sys.executable} -m fuse_overlay.cli -f -o {options} {mounted.merged}"
    mounted.run_with_ids(
        "for n in $(seq 20); do test $(stat -c %u link$n) = $n; done; chown -h 99 link1; test $(stat -c %u link1) = 99",
        before=f"""
        {serve} & server=$!
        until mountpoint -q {mounted.merged}; do sleep 0.05; done
        cd {mounted.merged}
        for n in $(seq 20); do ln -s x link$n; chown -h $n link$n; done
        (while ln -s y z; do chown -h 5 z; rm z; done) 2>/dev/null & sleep 0.2; kill -9 $server; wait || true
        cd /; umount -l {mounted.merged}
        """,
    )


def test_devices_are_shown_and_cannot_be_opened(mounted: Mounted) -> None:
    """A device of an image has its type, numbers and mode, moves and changes its mode, but gives nobody the device."""
    null, disk = mounted.lower / "null", mounted.lower / "disk"
    records = {null: ownership.format_record(Owner(0, 0, 0o666), NULL), disk: b"0:6:0660:block-8-1"}
    for path, record in records.items():
        path.touch()
        os.setxattr(path, XATTR, record)
    os.setxattr(mounted.lower, XATTR, b"0:0:0755")
    shown = "test \"$(stat -c '%F %t:%T %u:%g:%a' moved disk | tr '\\n' ' ')\" = "
    mounted.run_with_ids(
        f"""
        test "$(stat -c '%F %t:%T %u:%g:%a' null)" = "character special file 1:3 0:0:666"; test -c null; test -b disk
        (! cat null 2>/dev/null); (! echo x 2>/dev/null >null); cat /dev/null; (! mknod new c 1 3 2>/dev/null)
        (! mknod white c 0 0 2>/dev/null); test "$(ls | tr '\n' ' ')" = "disk null "
        mv null moved; chmod 600 moved; chown 5 disk; (! cat moved 2>/dev/null)
        {shown} "character special file 1:3 0:0:600 block special file 8:1 5:6:660 "
        """,
        f'{shown} "character special file 1:3 0:0:600 block special file 8:1 5:6:660 "; rm moved disk; test -z "$(ls)"',
    )
    assert "" == null.read_text()
