"""A sandbox's files as a tar archive (pax): what it changed as a layer of the OCI's kind, or its whole tree.

OCI image-spec, layer.md: an empty file `.wh.NAME` says that NAME is gone.
"""

from __future__ import annotations

import os
import stat
import tarfile
from typing import IO, TYPE_CHECKING

from fuse_overlay import whiteout
from rootless_sb.review import merged
from rootless_sb.review.layer import item_of, xattrs_of
from rootless_sb.ui.changes import shown
from rootless_sb.ui.messages import warn

if TYPE_CHECKING:
    from fuse_overlay.attributes import File
    from fuse_overlay.entries import Entry
    from fuse_overlay.tree import Tree
    from rootless_sb.review.actions import Key
    from rootless_sb.review.changes import Item
    from rootless_sb.review.layer import LayerView

_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}
_XATTR = "SCHILY.xattr."  # star's keyword, which GNU tar, bsdtar and docker use too


class _Whole:
    """A file that is as long as it was when it was described: as in GNU tar's archives, zeros are what it lacks."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        """So many of the next bytes."""
        return self._file.read(size).ljust(size, b"\0")


class Archive:
    """A tar archive that is being written to `output`. All methods raise OSError."""

    def __init__(self, output: IO[bytes]) -> None:
        self._tar = tarfile.open(  # noqa: SIM115 - for as long as we live
            fileobj=output, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
        )
        self._names: dict[Key, str] = {}

    def close(self) -> None:
        """Write the end."""
        self._tar.close()

    def add_changes(self, view: LayerView) -> None:
        """All that a layer changes, but for what goes meanwhile."""
        for change in view.changes():
            if change.after is None:
                above, _, name = change.path.rpartition(b"/")
                self._tar.addfile(tarfile.TarInfo(_text(above + b"/" + whiteout.mark_of(name))))
                continue
            try:
                file = view.file(change)
                opened = view.open_changed(change) if change.after.kind == stat.S_IFREG else None
            except OSError as error:
                if not merged.is_gone(error):
                    raise
                continue
            self._add(change.path, change.after, view.upper, file, opened)

    def add_tree(self, tree: Tree) -> None:
        """All that the sandbox sees, but for what goes meanwhile."""
        self._add_below(tree, tree.attributes(tree.root), b"")

    def add_path(self, tree: Tree, path: bytes) -> None:
        """What is at a path of the sandbox, by its last name, and all that is beneath it."""
        top = merged.find(tree, path, follow=False)
        name = os.path.basename(path.rstrip(b"/"))
        if name in (b"", b".."):
            name = b"."
        self._add_entry(tree, top, name)
        if top.node.kind == stat.S_IFDIR:
            self._add_below(tree, top, name + b"/")

    def _add_below(self, tree: Tree, top: Entry, before: bytes) -> None:
        for path, entry in merged.walk(tree, top):
            try:
                self._add_entry(tree, entry, before + path)
            except OSError as error:
                if not merged.is_gone(error):
                    raise

    def _add_entry(self, tree: Tree, entry: Entry, path: bytes) -> None:
        item, file = item_of(tree, entry), tree.file(entry.node)
        opened = merged.open_file(tree, entry) if item.kind == stat.S_IFREG else None
        self._add(path, item, tree, file, opened)

    def _add(self, path: bytes, item: Item, tree: Tree, file: File, opened: int | None) -> None:
        """Add one file; of a regular one the data that is `opened`, which is closed."""
        if opened is None:
            if (info := self._described(path, item, tree, file)) is not None:
                self._tar.addfile(info)
            return
        with open(opened, "rb") as data:
            now = item._replace(st=os.fstat(opened))  # it may have grown or shrunk since it was found
            if (info := self._described(path, now, tree, file)) is not None:
                self._tar.addfile(info, _Whole(data) if info.size else None)

    def _described(self, path: bytes, item: Item, tree: Tree, file: File) -> tarfile.TarInfo | None:
        """A file's entry without its data; None for what an archive can't hold, which is said."""
        if item.kind not in _TYPES:
            warn(f"left out: {shown(path)}: a {item.type}")
            return None
        info = _info(path, item)
        for name, value in xattrs_of(tree, file).items():
            info.pax_headers = {**info.pax_headers, _XATTR + os.fsdecode(name): os.fsdecode(value)}
        if item.st.st_nlink > 1 and item.kind != stat.S_IFDIR:
            first = self._names.setdefault((item.st.st_dev, item.st.st_ino), info.name)
            if first != info.name:
                info.type, info.linkname, info.size = tarfile.LNKTYPE, first, 0
        return info


def _info(path: bytes, item: Item) -> tarfile.TarInfo:
    info = tarfile.TarInfo(_text(path))
    info.type = _TYPES[item.kind]
    info.uid, info.gid, info.mode = item.owner
    info.mtime = item.st.st_mtime_ns / 1_000_000_000
    info.size = item.st.st_size if item.kind == stat.S_IFREG else 0
    info.linkname = os.fsdecode(item.target)
    info.devmajor, info.devminor = os.major(item.rdev), os.minor(item.rdev)
    return info


def _text(path: bytes) -> str:
    return os.fsdecode(path.lstrip(b"/"))
