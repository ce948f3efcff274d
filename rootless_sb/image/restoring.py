"""Copies of those of an image's files whose owner or mode is only recorded, with these for real.

They are a layer above the image's own, for the kernel's overlay, which knows no records. Whoever makes them is root of
the sandbox's user namespace, and may give files to all ids that exist there.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay import copydata, whiteout, xattrs
from fuse_overlay.layers import Budget, at
from fuse_overlay.tree import Tree
from rootless_sb.errors import SbError
from rootless_sb.review import merged

if TYPE_CHECKING:
    from fuse_overlay.config import Config
    from fuse_overlay.entries import Entry
    from fuse_overlay.inodes import Key, Node

_BUDGET = Budget(200, 200)
_WHAT = "the kernel's overlay can't show the image as it is"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_COVERED = b"dev/"  # by a file system of the sandbox's own


def restore(config: Config, place: str, hint: str) -> None:
    """Fill the directory `place`, which is empty, from the layers of `config`.

    Raises OSError, OverlayError; SbError with `hint` for what can't be shown.
    """
    tree = Tree(config, _BUDGET)
    top = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _Copies(tree, top, hint).make()
    finally:
        os.close(top)
        tree.close()


class _Copies:
    """Made in the directory that is open as `top`."""

    def __init__(self, tree: Tree, top: int, hint: str) -> None:
        self._tree = tree
        self._top = top
        self._hint = hint
        self._directories: dict[bytes, Entry] = {}  # those that have been walked through
        self._made: dict[bytes, int] = {}  # those that were made, and when they are to have been changed
        self._links: dict[Key, bytes] = {}

    def make(self) -> None:
        root = self._tree.attributes(self._tree.root)
        self._hide_marks(b"", root.node)
        for path, entry in merged.walk(self._tree, root):
            if entry.node.kind == stat.S_IFDIR:
                self._directories[path] = entry
                self._hide_marks(path, entry.node)
            if self._is_recorded_only(entry) and not path.startswith(_COVERED):
                self._copy(path, entry)
        for path, modified in reversed(self._made.items()):  # what is beneath was made later
            os.utime(at(self._top, path), ns=(modified, modified))

    def _hide_marks(self, path: bytes, node: Node) -> None:
        """Hide what the kernel would take for files of the image; refuse marks that it would have to understand."""
        names = {name for layer in node.dirs for name in self._tree.scan_layer(node, layer).names}
        for name in filter(whiteout.is_mark, names):
            if name == whiteout.OPAQUE_FILE or whiteout.hidden_by(name) is not None:
                why = f"/{os.fsdecode(path)} has whiteouts that only sb's own overlay knows"
                raise SbError(_WHAT, why, self._hint)
            self._make_directory(path)
            os.mknod(path + b"/" + name if path else name, stat.S_IFCHR, 0, dir_fd=self._top)

    def _is_recorded_only(self, entry: Entry) -> bool:
        """Whether the kernel would show something else than the image has."""
        owner, st = entry.owner, entry.st
        if entry.node.kind in (stat.S_IFCHR, stat.S_IFBLK) or (owner.uid, owner.gid) != (st.st_uid, st.st_gid):
            return True
        if entry.node.kind == stat.S_IFLNK:
            return False
        return owner.mode != stat.S_IMODE(st.st_mode) or bool(self._attributes(entry).keys() & set(xattrs.AS_DATA))

    def _attributes(self, entry: Entry) -> dict[bytes, bytes]:
        extended, file = self._tree.extended, self._tree.file(entry.node)
        found = ((name, extended.read(file, name)) for name in extended.names(file))
        return {name: value for name, value in found if value is not None}

    def _copy(self, path: bytes, entry: Entry) -> None:
        kind = entry.node.kind
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            raise SbError(_WHAT, f"/{os.fsdecode(path)} is a device node", self._hint)
        if kind == stat.S_IFDIR:
            self._make_directory(path)
            return
        self._make_directory(path.rpartition(b"/")[0])
        first = self._links.setdefault(entry.node.key, path)
        if first != path:
            os.link(first, path, src_dir_fd=self._top, dst_dir_fd=self._top, follow_symlinks=False)
            return
        if kind == stat.S_IFLNK:
            os.symlink(merged.link_target(self._tree, entry.node), path, dir_fd=self._top)
        elif kind == stat.S_IFIFO:
            os.mkfifo(path, 0o600, dir_fd=self._top)
        else:
            self._copy_data(path, entry)
        self._dress(path, entry)
        modified = entry.st.st_mtime_ns
        os.utime(path, ns=(modified, modified), dir_fd=self._top, follow_symlinks=False)

    def _copy_data(self, path: bytes, entry: Entry) -> None:
        source = merged.open_file(self._tree, entry)
        try:
            target = os.open(path, _NEW, 0o600, dir_fd=self._top)
            try:
                copydata.copy(source, target, entry.st.st_size)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _make_directory(self, path: bytes) -> None:
        """Make a directory and those above it; above the image's own they are what shows, so each is dressed."""
        if not path or path in self._made:
            return
        self._make_directory(path.rpartition(b"/")[0])
        entry = self._directories[path]
        os.mkdir(path, 0o700, dir_fd=self._top)
        self._made[path] = entry.st.st_mtime_ns
        self._dress(path, entry)

    def _dress(self, path: bytes, entry: Entry) -> None:
        """Give a copy its owner, then what a change of owner takes away: mode and capabilities (chown(2))."""
        os.chown(path, entry.owner.uid, entry.owner.gid, dir_fd=self._top, follow_symlinks=False)
        if entry.node.kind == stat.S_IFLNK:
            return
        os.chmod(path, entry.owner.mode, dir_fd=self._top)
        for name, value in self._attributes(entry).items():
            os.setxattr(at(self._top, path), name, value, follow_symlinks=False)
