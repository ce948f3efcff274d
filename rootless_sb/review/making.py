"""Makes files in a sandbox that doesn't run; they belong to the ids that are the caller's own inside."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay.creation import Caller
from fuse_overlay.entries import Missing
from fuse_overlay.errors import failure
from fuse_overlay.metadata import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuse_overlay.inodes import Node
    from fuse_overlay.overlay import Overlay

MODE = 0o777  # what of a mode goes along: neither setuid nor the like


class Maker:
    """Makes one file at a time, by the directory that it is in and its name. All methods raise OSError."""

    def __init__(self, overlay: Overlay, uid: int, gid: int) -> None:
        self._overlay = overlay
        self._caller = Caller(uid, gid)

    def there(self, above: Node, name: bytes, kind: int) -> Node | None:
        """What is there, if anything is. Raises OSError if it is of another kind, too."""
        found = self._overlay.lookup(above.ino, name)
        if isinstance(found, Missing):
            return None
        if found.node.kind != kind:
            raise failure(errno.EISDIR if found.node.kind == stat.S_IFDIR else errno.EEXIST)
        return found.node

    def directory(self, above: Node, name: bytes, mode: int) -> Node:
        """A directory, made if none is there."""
        there = self.there(above, name, stat.S_IFDIR)
        return there or self._overlay.mknod(above.ino, name, stat.S_IFDIR | mode & MODE, self._caller).node

    def file(self, above: Node, name: bytes, mode: int, fill: Callable[[int], None]) -> Node:
        """A file with the data that `fill` writes to a descriptor of it."""
        node = self.there(above, name, stat.S_IFREG)
        if node is None:
            made, entry = self._overlay.create(above.ino, name, mode & MODE, os.O_WRONLY, self._caller)
            node = entry.node
        else:
            made = self._overlay.open(node.ino, os.O_WRONLY | os.O_TRUNC)
        try:
            with self._overlay.descriptor(made.handle) as target:
                fill(target)
        finally:
            self._overlay.release(made.handle)
        return node

    def symlink(self, above: Node, name: bytes, target: bytes) -> None:
        """A symbolic link, in place of another if one is there."""
        if self.there(above, name, stat.S_IFLNK) is not None:
            self._overlay.unlink(above.ino, name)
        self._overlay.symlink(above.ino, name, target, self._caller)

    def link(self, node: Node, above: Node, name: bytes) -> None:
        """One more name of a file, in place of another file if one is there."""
        if self.there(above, name, node.kind) is not None:
            self._overlay.unlink(above.ino, name)
        self._overlay.link(node.ino, above.ino, name)

    def finish(self, node: Node, mode: int, atime: int, mtime: int) -> None:
        """Give a file its mode and its times, in nanoseconds."""
        self._overlay.setattr(node.ino, Wanted(mode=mode & MODE, atime=atime, mtime=mtime))
