"""Renaming: everything becomes the upper's first, so there is nothing that can't be renamed."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay.attributes import File
from fuse_overlay.changes import check_new_name
from fuse_overlay.entries import Missing, check_name
from fuse_overlay.errors import failure
from fuse_overlay.kernel import paths

if TYPE_CHECKING:
    from fuse_overlay.changes import Changes
    from fuse_overlay.copyup import CopyUp
    from fuse_overlay.inodes import Node
    from fuse_overlay.layers import Layer
    from fuse_overlay.tree import Tree
    from fuse_overlay.work import Work


class Rename:
    """Renames in the merged tree."""

    def __init__(self, tree: Tree, upper: Layer, work: Work, copyup: CopyUp, changes: Changes) -> None:
        self._tree = tree
        self._upper = upper
        self._work = work
        self._copyup = copyup
        self._changes = changes

    def rename(self, old_parent: Node, old: bytes, new_parent: Node, new: bytes, flags: int) -> None:
        """Rename as rename(2) and, with `flags`, renameat2(2) does. Raises OSError."""
        if flags not in (0, paths.RENAME_NOREPLACE, paths.RENAME_EXCHANGE):
            raise failure(errno.EINVAL)
        check_new_name(new)
        self._changes.see_to_mark(old_parent, old)
        node = self._tree.require(old_parent, old)
        target = self._node_at(new_parent, new)
        held = [node] if target is None else [node, target]
        for one in held:
            one.lookups += 1
        try:
            if flags == paths.RENAME_NOREPLACE and target is not None:
                raise failure(errno.EEXIST)
            if target is node:
                return  # two names of one file: both stay (rename(2))
            if flags != paths.RENAME_EXCHANGE:
                self._move(node, old_parent, old, target, new_parent, new)
            elif target is not None:
                self._exchange(node, old_parent, old, target, new_parent, new)
            else:
                raise failure(errno.ENOENT)
        finally:
            for one in held:
                self._tree.table.forget(one, 1)

    def _move(
        self, node: Node, old_parent: Node, old: bytes, target: Node | None, new_parent: Node, new: bytes
    ) -> None:
        left, weight = 0, None
        if target is not None:
            self._make_way(node, target, new_parent, new)
            self._tree.close_kept(target)
            self._changes.aside.keep(target)
            left, weight = self._changes.names_left(target), self._changes.weight(target)
        self._raise(node)
        to_whiteout = self._changes.needs_whiteout(old_parent, old)
        source = self._copyup.directory(old_parent)
        directory = self._copyup.directory(new_parent)
        if node.kind == stat.S_IFDIR and len(new_parent.dirs) > 1:
            self._work.set_opaque(source, old)
        if to_whiteout and not self._work.devices:
            self._changes.put_whiteout(source, old)
        self._tree.store.add_place(self._file(node, source, old), directory, new)
        there = self._upper.stat(directory, new)
        if there is not None and node.kind == stat.S_IFDIR and not stat.S_ISDIR(there.st_mode):
            # The whiteout at the new name, which a directory can't replace, goes to the old one.
            paths.rename(source, old, directory, new, paths.RENAME_EXCHANGE)
            if not to_whiteout:
                os.unlink(old, dir_fd=source)
        elif to_whiteout and self._work.devices:
            self._rename_leaving_whiteout(source, old, directory, new)
        else:
            os.rename(old, new, src_dir_fd=source, dst_dir_fd=directory)
        self._changes.unmark(directory, new)
        self._changes.drop_record(node, source, old)
        if target is not None and target.source is self._upper:
            self._changes.drop_record(target, directory, new)
        if target is not None:
            self._tree.quota.removed(target, weight)
            self._changes.lost_name(target, new_parent, new, left)
        self._tree.table.rename(node, (old_parent, old), (new_parent, new))
        old_parent.version += 1
        new_parent.version += 1

    def _exchange(self, node: Node, old_parent: Node, old: bytes, target: Node, new_parent: Node, new: bytes) -> None:
        self._raise(node)
        self._raise(target)
        source = self._copyup.directory(old_parent)
        directory = self._copyup.directory(new_parent)
        if node.kind == stat.S_IFDIR and len(new_parent.dirs) > 1:
            self._work.set_opaque(source, old)
        if target.kind == stat.S_IFDIR and len(old_parent.dirs) > 1:
            self._work.set_opaque(directory, new)
        self._tree.store.add_place(self._file(node, source, old), directory, new)
        self._tree.store.add_place(self._file(target, directory, new), source, old)
        paths.rename(source, old, directory, new, paths.RENAME_EXCHANGE)
        self._changes.drop_record(node, source, old)
        self._changes.drop_record(target, directory, new)
        self._tree.table.exchange(node, (old_parent, old), target, (new_parent, new))
        old_parent.version += 1
        new_parent.version += 1

    def _file(self, node: Node, directory: int, name: bytes) -> File:
        return File(self._upper, node.real_kind, node.key[1], b"", ((directory, name),))

    def _node_at(self, parent: Node, name: bytes) -> Node | None:
        check_name(name)
        found = self._tree.find(parent, name)
        return None if isinstance(found, Missing) else self._tree.adopt(parent, name, found)

    def _make_way(self, node: Node, target: Node, parent: Node, name: bytes) -> None:
        """See that the target may be replaced, and that the real rename can replace it."""
        if target.kind != stat.S_IFDIR:
            if node.kind == stat.S_IFDIR:
                raise failure(errno.ENOTDIR)
            return
        if node.kind != stat.S_IFDIR:
            raise failure(errno.EISDIR)
        if not self._tree.is_empty(target):
            raise failure(errno.ENOTEMPTY)
        if target.source is self._upper:
            self._changes.clear_marks(target, parent, name)

    def _raise(self, node: Node) -> None:
        """Bring a node to the upper, with all that is in it."""
        if node.kind == stat.S_IFDIR:
            self._copyup.tree(node)
        else:
            self._copyup.node(node)

    def _rename_leaving_whiteout(self, source: int, old: bytes, directory: int, new: bytes) -> None:
        try:
            paths.rename(source, old, directory, new, paths.RENAME_WHITEOUT)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
                raise
            # Not on this file system: in two steps, and a crash between them leaves both names.
            os.rename(old, new, src_dir_fd=source, dst_dir_fd=directory)
            self._changes.put_whiteout(source, old)
