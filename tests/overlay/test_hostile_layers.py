"""Layers that are traps: whatever marks, records, names and types they hold, reading them is safe and ends well."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as some

from fuse_overlay.entries import Entry
from tests.overlay.conftest import MAX_IDS, Driver, Stage

SECRET = b"what lies outside the layer"
NAME = some.sampled_from(
    ["a", "b", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh..wh.plnk", ".wh.", ".wh..", "c\n", "\udcff", "x" * 255]
)
RECORD = some.binary(max_size=12) | some.sampled_from(
    [b"0:0:04755", b"1:2:0644", b"0:0:0", b"-1:0:0755", b"4294967295:0:0755", b"9" * 100 + b":0:0755", b"0:0:0120777"]
)
MARK = some.sampled_from(("containers.override_stat", "overlay.opaque", "overlay.redirect", "overlay.metacopy", "mine"))
XATTR = some.tuples(
    MARK.map("user.{}".format), some.sampled_from([b"y", b"x", b"/../../secret", b"../secret"]) | RECORD
)
TARGET = some.sampled_from(["/", "..", "../../../../../..", "a", ".wh.a", "../secret", "\udcff", "b/../../.."])
LEAF = some.one_of(
    some.tuples(some.just("file"), some.binary(max_size=8)),
    some.tuples(some.just("link"), TARGET),
    some.tuples(some.just("whiteout"), some.none()),
    some.tuples(some.just("fifo"), some.none()),
)
TREE = some.recursive(
    LEAF, lambda inner: some.tuples(some.just("directory"), some.dictionaries(NAME, inner, max_size=4)), max_leaves=8
)
LAYER = some.dictionaries(NAME, some.tuples(TREE, some.lists(XATTR, max_size=2)), max_size=4)


def plant(path: Path, kind: str, content: object) -> None:
    """Make one thing of a layer."""
    if kind == "file":
        assert isinstance(content, bytes)
        path.write_bytes(content)
    elif kind == "link":
        path.symlink_to(str(content))
    elif kind == "whiteout":
        os.mknod(path, stat.S_IFCHR | 0o600, 0)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        assert isinstance(content, dict)
        path.mkdir()
        for name, (inner, what) in content.items():
            plant(path / name, inner, what)


def plant_layer(directory: Path, contents: dict[str, tuple[tuple[str, object], list[tuple[str, bytes]]]]) -> None:
    """Make a layer with marks on the things at its top."""
    directory.mkdir()
    for name, ((kind, content), marks) in contents.items():
        plant(directory / name, kind, content)
        for mark, value in marks:
            if kind in ("file", "directory"):
                os.setxattr(directory / name, mark, value)


def walk(driver: Driver, ino: int) -> list[Entry]:
    """Look at everything that is in the overlay, and read it."""
    overlay = driver.overlay
    handle = overlay.opendir(ino)
    names = [name for name, _, _ in overlay.readdir(handle, 0) if name not in (b".", b"..")]
    overlay.releasedir(handle)
    assert len(names) == len(set(names))
    found = []
    for name in names:
        entry = overlay.lookup(ino, name)
        assert isinstance(entry, Entry), "what is listed is there"
        found.append(entry)
        assert 0 <= entry.owner.uid < MAX_IDS
        assert 0 <= entry.owner.gid < MAX_IDS
        number, kind = entry.node.ino, stat.S_IFMT(entry.st.st_mode)
        overlay.listxattr(number)
        if kind == stat.S_IFDIR:
            found += walk(driver, number)
        elif kind == stat.S_IFREG:
            opened = overlay.open(number, os.O_RDONLY)
            assert SECRET not in os.pread(opened.handle, 100, 0)
            overlay.release(opened.handle)
        elif kind == stat.S_IFLNK:
            overlay.readlink(number)
    return found


@given(LAYER, LAYER)
@settings(max_examples=60, deadline=None)
def test_any_layer_can_be_read(top: dict[str, object], bottom: dict[str, object]) -> None:
    """Whatever is in two layers: all that is listed can be looked at, ids exist, no whiteout is shown, nothing from
    outside is read."""
    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        (base / "secret").write_bytes(SECRET)
        plant_layer(base / "top", top)  # type: ignore[arg-type]
        plant_layer(base / "bottom", bottom)  # type: ignore[arg-type]
        stage = Stage(base)
        try:
            driver = stage.over(stage.lower("top", {}), stage.lower("bottom", {}))
            for entry in walk(driver, 1):
                assert not stat.S_ISCHR(entry.st.st_mode)
        finally:
            stage.close()
        assert SECRET == (base / "secret").read_bytes()
        assert {"secret", "top", "bottom", "upper", "work"} == {path.name for path in base.iterdir()}
