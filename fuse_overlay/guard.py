"""Paths of the merged tree that can't be changed: which requests are refused with EROFS.

What is there belongs to lower layers and stays there, so a change of the same file under another name, which makes a
copy, doesn't reach it. A file that was found by a read-only name can't be changed under its other names either.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay import policy
from fuse_overlay.entries import Missing
from fuse_overlay.errors import failure

if TYPE_CHECKING:
    from fuse_overlay.inodes import Node
    from fuse_overlay.tree import Tree

_LINKS_MAX = 40  # path_resolution(7)


class Guard:
    """Refuses changes at and beneath read-only paths. All methods raise OSError EROFS."""

    def __init__(self, tree: Tree, paths: tuple[bytes, ...]) -> None:
        """Raises ValueError for a path that isn't absolute."""
        self._tree = tree
        resolved = [_resolved(tree, path) for path in paths]
        self._paths = policy.read_only_paths((*paths, *resolved))
        if paths:
            tree.fixed = self._paths
        tree.root.fixed = b"" in self._paths.paths

    def change(self, node: Node) -> None:
        """A file is to be changed, or to get another name."""
        if node.fixed:
            raise failure(errno.EROFS)

    def make(self, parent: Node, name: bytes, kind: int) -> None:
        """A file of this type (S_IFMT bits) is to be made."""
        # A directory on the way to a path that isn't there yet is harmless, a symbolic link would lead elsewhere.
        self._enter(parent, name, stays=kind in (stat.S_IFDIR, stat.S_IFREG))

    def remove(self, parent: Node, name: bytes) -> None:
        """A name is to be taken away from a file or an empty directory."""
        self._enter(parent, name, stays=not self._is_link(parent, name))

    def move(self, parent: Node, name: bytes) -> None:
        """A name is to be taken away from what is there, or given to something else, by a rename or a link."""
        self._enter(parent, name, stays=False)
        if self._tree.fixed is None:
            return
        found = self._tree.find(parent, name)
        if not isinstance(found, Missing):
            node = self._tree.adopt(parent, name, found)
            self._tree.table.settle(node)
            self.change(node)

    def _enter(self, parent: Node, name: bytes, *, stays: bool) -> None:
        if self._tree.is_fixed(parent, name):
            raise failure(errno.EROFS)
        if not stays and name in self._paths.names and parent.path_of(name) in self._paths.above:
            raise failure(errno.EROFS)

    def _is_link(self, parent: Node, name: bytes) -> bool:
        return name in self._paths.names and _link(self._tree, parent, name) is not None


def _link(tree: Tree, parent: Node, name: bytes) -> bytes | None:
    """The target of the symbolic link at a name; None if something else is there, or nothing."""
    found = tree.resolve(parent, name)
    if isinstance(found, Missing) or not stat.S_ISLNK(found.st.st_mode):
        return None
    return os.readlink(name, dir_fd=tree.directories.get(parent, found.source).fd)


def _resolved(tree: Tree, path: bytes) -> bytes:
    """The path without the symbolic links that the merged tree has on the way and at the end."""
    waiting = path.split(b"/")[::-1]
    node = tree.root
    links = 0
    while waiting:
        name = waiting.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            node = node.parent or node
            continue
        target = _link(tree, node, name)
        if target is not None and links < _LINKS_MAX:
            links += 1
            node = tree.root if target.startswith(b"/") else node
            waiting += target.split(b"/")[::-1]
            continue
        found = tree.resolve(node, name)
        if isinstance(found, Missing) or not found.dirs:
            rest = b"/".join([name, *reversed(waiting)])
            break
        node = tree.adopt(node, name, found)
    else:
        rest = b""
    resolved = b"/" + node.path_of(rest) if rest else b"/" + node.path
    tree.table.settle(node)
    return resolved
