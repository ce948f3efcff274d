"""Changes of attributes and extended attributes."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from fuse_overlay import ownership, xattrs
from fuse_overlay.attributes import carries
from fuse_overlay.errors import failure
from fuse_overlay.layers import at

if TYPE_CHECKING:
    from fuse_overlay.copyup import CopyUp
    from fuse_overlay.inodes import Node
    from fuse_overlay.layers import Real
    from fuse_overlay.tree import Entry, Tree


class Wanted(NamedTuple):
    """The attributes that setattr is to change; None: left as it is. Times in nanoseconds, the size in bytes."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime: int | None = None
    mtime: int | None = None


class Metadata:
    """Reads and changes what is known about files. `copyup` is None in a read-only overlay."""

    def __init__(self, tree: Tree, copyup: CopyUp | None) -> None:
        self._tree = tree
        self._copyup = copyup

    def change(self, node: Node, wanted: Wanted) -> Entry:
        """Change attributes. Raises OSError; EACCES when that takes a copy of data which the user may not read."""
        before = self._tree.attributes(node)
        owner = _changed_owner(node.kind, before.owner, wanted)
        timed = wanted.atime is not None or wanted.mtime is not None
        if owner != before.owner or timed or wanted.size is not None:
            self._to_upper(node, wanted.size)
        if wanted.size is not None:
            self._truncate(node, wanted.size)
        if owner != before.owner or (node.source.writable and wanted[:3] != (None, None, None)):
            self._set_owner(node, owner)  # even to what it was: that is a change too (st_ctime)
        if timed:
            self._set_times(node, before.st, wanted)
        return self._tree.attributes(node)

    def read(self, node: Node, name: bytes) -> bytes:
        """The value of an extended attribute. Raises OSError ENODATA if there is none."""
        if not xattrs.visible(name):
            raise failure(xattrs.absence(name))
        value = self._tree.store.read(self._tree.file(node), name)
        if value is None:
            raise failure(errno.ENODATA)
        return value

    def names(self, node: Node) -> list[bytes]:
        """The names of the extended attributes that are shown."""
        return [name for name in self._tree.store.names(self._tree.file(node)) if xattrs.visible(name)]

    def write(self, node: Node, name: bytes, value: bytes) -> None:
        """Set an extended attribute. Raises OSError."""
        self._check(name)
        self._to_upper(node, None)
        self._tree.store.change(self._tree.file(node), {name: value})

    def remove(self, node: Node, name: bytes) -> None:
        """Remove an extended attribute. Raises OSError."""
        self._check(name)
        self.read(node, name)
        self._to_upper(node, None)
        self._tree.store.change(self._tree.file(node), {name: None})

    def _check(self, name: bytes) -> None:
        refusal = xattrs.refusal(name)
        if refusal:
            raise failure(refusal)

    def _to_upper(self, node: Node, length: int | None) -> None:
        if self._copyup is None:
            raise failure(errno.EROFS)
        self._copyup.node(node, length)

    def _real(self, node: Node) -> Real:
        """The real file: of an open one its descriptor, which is good when it has lost its name too."""
        return node.handles[0] if node.handles else at(*self._tree.place(node))

    def _truncate(self, node: Node, size: int) -> None:
        if node.handles:
            os.ftruncate(node.handles[0], size)
            return
        directory, name = self._tree.place(node)
        fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    def _set_times(self, node: Node, before: os.stat_result, wanted: Wanted) -> None:
        atime = before.st_atime_ns if wanted.atime is None else wanted.atime
        mtime = self._tree.attributes(node).st.st_mtime_ns if wanted.mtime is None else wanted.mtime
        file = self._real(node)
        os.utime(file, ns=(atime, mtime), follow_symlinks=isinstance(file, int))

    def _set_owner(self, node: Node, owner: ownership.Owner) -> None:
        self._tree.records.check(owner)
        file = self._tree.file(node)
        if node.kind != stat.S_IFLNK:
            os.chmod(file.real, ownership.real_mode(node.kind, owner.mode))
        if file.places or carries(file):  # else the file ends with the node
            self._tree.records.write(file, owner, node.device)
        node.owner = owner


def _changed_owner(kind: int, owner: ownership.Owner, wanted: Wanted) -> ownership.Owner:
    """The owner after a change; a new user or group takes setuid and setgid away unless a mode is set with it."""
    mode = owner.mode
    if wanted.mode is not None:
        mode = wanted.mode & ownership.MODE_BITS
    elif wanted.uid is not None or wanted.gid is not None:
        mode = ownership.after_chown(kind, mode)
    return ownership.Owner(
        owner.uid if wanted.uid is None else wanted.uid, owner.gid if wanted.gid is None else wanted.gid, mode
    )
