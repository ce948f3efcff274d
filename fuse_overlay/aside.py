"""Names in the work directory, of open files that lose their own.

A file that is open by a descriptor needs none. Where there are too many open files for that (handles.py), one without
a name could not be opened any more.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuse_overlay.inodes import TRANSIENT

if TYPE_CHECKING:
    from fuse_overlay.copyup import CopyUp
    from fuse_overlay.inodes import Node
    from fuse_overlay.layers import Layer
    from fuse_overlay.tree import Tree
    from fuse_overlay.work import Work


class Aside:
    """Gives files such a name and takes it away. All methods raise OSError."""

    def __init__(self, tree: Tree, upper: Layer, work: Work, copyup: CopyUp) -> None:
        self._tree = tree
        self._upper = upper
        self._work = work
        self._copyup = copyup

    def keep(self, node: Node) -> None:
        """See that a file can be reached by all of its handles if it loses a name now."""
        if node.aside is not None or node.aliases or not node.handles or node.handles[-1] < TRANSIENT:
            return
        self._copyup.node(node)
        name = self._work.name()
        directory, known = self._tree.place(node)
        self._tree.store.add_place(self._tree.file(node), self._work.fd, name)
        os.link(known, name, src_dir_fd=directory, dst_dir_fd=self._work.fd, follow_symlinks=False)
        node.aside = name

    def release(self, node: Node) -> None:
        """Take the name away from a file that has no handle any more."""
        if node.aside is None:
            return
        name, node.aside = node.aside, None
        self._work.discard(name)
        self._tree.store.drop_place(self._upper, node.real_kind, node.key[1], self._work.fd, name)
