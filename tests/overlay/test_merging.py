"""What the merged tree shows of several layers, without a mount."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fuse_overlay.creation import Caller
from fuse_overlay.mounts import Mounts

if TYPE_CHECKING:
    from tests.overlay.conftest import Contents, Stage


def test_three_layers_merge(stage: Stage) -> None:
    """Directories merge, and of files the topmost layer's is seen."""
    top = stage.lower("top", {"d": {"a": b"top"}})
    middle = stage.lower("middle", {"d": {"a": b"middle", "b": b"middle"}, "x": b"file"})
    bottom = stage.lower("bottom", {"d": {"a": b"bottom", "c": b"bottom"}, "x": {"y": b""}})
    driver = stage.over(top, middle, bottom)
    assert ["d", "x"] == driver.ls()
    assert ["a", "b", "c"] == driver.ls("d")
    assert [b"top", b"middle", b"bottom"] == [driver.read(f"d/{name}") for name in "abc"]
    assert b"file" == driver.read("x")


def test_two_hundred_layers_merge(stage: Stage) -> None:
    """Every layer's own file is there, and of a file that all have the topmost layer's, until that is removed."""
    names = [f"f{number}" for number in range(200)]
    layers = [stage.lower(name, {"d": {name: name.encode(), "all": name.encode()}}) for name in names]
    driver = stage.over(*layers)
    assert sorted([*names, "all"]) == driver.ls("d")
    assert [name.encode() for name in names] == [driver.read(f"d/{name}") for name in names]
    assert b"f0" == driver.read("d/all")
    driver.unlink("d/all")
    driver.rename("d", "e")
    assert sorted(names) == driver.ls("e")


def test_whiteouts_of_both_formats_hide_what_is_below(stage: Stage) -> None:
    """A device 0:0 and a `.wh.` file take a name away from lower layers, and aren't seen themselves."""
    top = stage.lower("top", {"a": None, ".wh.b": b"", "c": b""})
    bottom = stage.lower("bottom", {"a": b"", "b": {"x": b""}, "d": b""})
    driver = stage.over(top, bottom)
    assert ["c", "d"] == driver.ls()
    assert not any(driver.exists(name) for name in ("a", "b", ".wh.b", "b/x"))


def test_opaque_directories_of_all_formats_hide_what_is_below(stage: Stage) -> None:
    """user.overlay.opaque, user.fuseoverlayfs.opaque and `.wh..wh..opq` each end the merging."""
    top = stage.lower("top", {"a": {"new": b""}, "b": {"new": b""}, "c": {"new": b"", ".wh..wh..opq": b""}})
    bottom = stage.lower("bottom", {name: {"old": b""} for name in "abc"})
    os.setxattr(top.path + b"/a", "user.overlay.opaque", b"y")
    os.setxattr(top.path + b"/b", "user.fuseoverlayfs.opaque", b"y")
    driver = stage.over(top, bottom)
    assert [["new"], ["new"], ["new"]] == [driver.ls(name) for name in "abc"]


def test_a_mark_concerns_only_the_layers_below_it(stage: Stage) -> None:
    """A layer that has both `x` and `.wh.x` shows its own x, and not what is below."""
    top = stage.lower("top", {"x": {"new": b""}, ".wh.x": b""})
    driver = stage.over(top, stage.lower("bottom", {"x": {"old": b""}}))
    assert ["x"] == driver.ls()
    assert ["new"] == driver.ls("x")


def test_a_plain_tree_has_no_marks(stage: Stage) -> None:
    """On the host's tree, files that look like marks are files."""
    contents: dict[str, Contents] = {"a": None, ".wh.b": b"mark", "b": b"", "c": {".wh..wh..opq": b""}}
    driver = stage.over(stage.lower("host", contents, layer=False))
    assert [".wh.b", "a", "b", "c"] == driver.ls()
    assert b"mark" == driver.read(".wh.b")


def test_a_hidden_path_is_not_there(stage: Stage) -> None:
    """A hidden file is gone under all its names, hidden directories with all that is in them; a new one can be made."""
    host = stage.lower("host", {"secret": b"s", "keys": {"id": b"k"}, "d": {}}, layer=False, live=True)
    base = stage.base / "host"
    os.link(base / "secret", base / "d" / "other name")
    config = stage.config(host, hidden=(base / "secret", base / "keys", base / "d" / "not yet"))
    (base / "d" / "not yet").write_bytes(b"now")
    driver = stage.drive(config)
    assert ["d"] == driver.ls()
    assert [] == driver.ls("d")
    assert not driver.exists("keys/id")
    driver.mkdir("keys")
    driver.write("secret", b"mine")
    assert [] == driver.ls("keys")
    assert b"mine" == driver.read("secret")
    assert b"s" == (base / "secret").read_bytes()
    driver.unlink("secret")
    assert not driver.exists("secret")


def test_pseudo_file_systems_are_empty_directories(stage: Stage) -> None:
    """Of what is mounted at a place of a plain tree, the type decides whether its content is shown."""
    mounts = os.stat("/proc").st_dev
    driver = stage.drive(stage.config(stage.lower("host", {}, layer=False), hidden=()), Mounts({mounts: "proc"}))
    assert [] == driver.ls()
    root = stage.config(stage.lower("other", {}, layer=False))
    root = root._replace(lowers=(root.lowers[0]._replace(path=b"/", live=True),))
    over_host = stage.drive(root)
    assert [] == over_host.ls("proc")
    assert not over_host.exists("proc/self")
    assert 0 < len(over_host.ls("usr"))


def test_a_directory_that_cannot_be_listed_appears_empty(stage: Stage) -> None:
    """Nothing is seen in a directory without permissions, and it can be filled in the upper."""
    host = stage.lower("host", {"closed": {"a": b""}}, layer=False, live=True)
    closed = stage.base / "host" / "closed"
    closed.chmod(0)
    try:
        driver = stage.over(host)
        assert [] == driver.ls("closed")
        assert not driver.exists("closed/a")
        driver.write("closed/b", b"new")
        assert ["b"] == driver.ls("closed")
        assert 0 == driver.entry("closed").owner.mode
    finally:
        closed.chmod(0o755)


def test_names_that_are_no_names_are_refused(stage: Stage) -> None:
    """A look-up or a new file by a name with a slash, by dots or by 256 bytes fails."""
    driver = stage.over(stage.lower("lower", {"a": {}}))
    for name in (b"", b".", b"..", b"a/b", b"../x"):
        with pytest.raises(OSError, match="Invalid argument"):
            driver.overlay.lookup(1, name)
        with pytest.raises(OSError, match="Invalid argument"):
            driver.overlay.symlink(1, name, b"x", Caller())
    with pytest.raises(OSError, match="File name too long"):
        driver.overlay.lookup(1, b"a" * 256)


def test_a_symbolic_link_in_a_layer_is_never_followed(stage: Stage) -> None:
    """A directory of a layer that is replaced by a link to elsewhere, leads nowhere."""
    outside = stage.base / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"")
    driver = stage.over(stage.lower("host", {"d": {"e": {"file": b""}}}, layer=False, live=True))
    ino = driver.ino("d/e")
    (stage.base / "host" / "d").rename(stage.base / "aside")
    (stage.base / "host" / "d").symlink_to(outside)
    driver.overlay.tree.directories.close_all()
    with pytest.raises(OSError, match=r"symbolic links|Not a directory|Stale|No such"):
        driver.overlay.getattr(ino)


def test_inode_numbers_differ_between_file_systems(stage: Stage) -> None:
    """Two real files with equal st_ino on two devices get two numbers."""
    numbers = stage.over(stage.lower("lower", {})).overlay.tree.table.numbers
    assert numbers.derive((1, 77)) != numbers.derive((2, 77))
    assert numbers.derive((1, 77)) == numbers.derive((1, 77))
    assert 0 < numbers.derive((2**40 + 5, 2**64 - 1)) < 2**63
