"""Open files. A file handle is the descriptor of the real file itself."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from fuse_overlay import copydata, ownership
from fuse_overlay.errors import failure
from fuse_overlay.kernel.shortcut import SHORTCUT
from fuse_overlay.layers import at_fd, open_regular

if TYPE_CHECKING:
    from fuse_overlay.changes import Changes
    from fuse_overlay.copyup import CopyUp
    from fuse_overlay.creation import New
    from fuse_overlay.inodes import Node
    from fuse_overlay.privileges import Privileges
    from fuse_overlay.tree import Entry, Tree

# What of open(2)'s flags concerns the real file. Appending is the kernel's with the writeback cache: it knows the size.
# O_DIRECT is for the way between the client and the kernel: our own buffers are not aligned for it.
_KEPT = os.O_SYNC | os.O_DSYNC


class Opened(NamedTuple):
    """An open file. `keep`: what the kernel has cached of it is still right."""

    fd: int
    keep: bool


class Handles:
    """Opens and closes files. `copyup` is None in a read-only overlay."""

    def __init__(self, tree: Tree, copyup: CopyUp | None, privileges: Privileges) -> None:
        self._tree = tree
        self._copyup = copyup
        self._privileges = privileges
        self._nodes: dict[int, Node] = {}
        # Descriptors whose next write takes the file's capabilities away. What gets capabilities while it is open keeps
        # them: the data of earlier writes may still be on its way from the kernel's cache.
        self._takes_capability: set[int] = set()

    def open(self, node: Node, flags: int) -> Opened:
        """Open a regular file with open(2)'s flags. Raises OSError."""
        if node.kind != stat.S_IFREG:
            raise failure(errno.EISDIR if node.kind == stat.S_IFDIR else errno.ENXIO)
        self._make_room()
        writing = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
        if writing:
            if self._copyup is None:
                raise failure(errno.EROFS)
            self._copyup.node(node, 0 if flags & os.O_TRUNC else None)
        quota = self._tree.quota
        if writing and quota.active:
            quota.hold(node, self._tree.attributes(node).st)
        fd = self._open(node, flags & (_KEPT | os.O_TRUNC))
        self._add(node, fd)
        try:
            keep = self._see_to(node, fd, writing=writing, truncated=bool(flags & os.O_TRUNC))
        except BaseException:
            self.close(fd)  # nobody else will: the client has no handle
            raise
        return Opened(fd, keep)

    def write(self, fd: int, data: bytes, offset: int) -> int:
        """Write, and take away what a write takes away. Returns the number of bytes written. Raises OSError.

        The modification time stays. With the writeback cache it is the kernel's to say, which knows when the program
        wrote, and sends it along when it is another than it was (fuse_flush_times in fs/fuse/inode.c).
        """
        node = self._nodes[fd]
        self._revoke(node, fd)
        quota = self._tree.quota
        if not quota.has_room(len(data)) and not copydata.is_data(fd, offset, len(data)):
            raise failure(errno.EDQUOT)
        self._shorten(node, fd)
        st = os.fstat(fd)
        written = os.pwrite(fd, data, offset)
        os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))
        if quota.active:
            quota.measured(node, os.fstat(fd))
        return written

    def sync(self, fd: int, data_only: bool) -> None:
        """Bring an open file to the disk: fsync(2), or fdatasync(2). Raises OSError."""
        if data_only:
            os.fdatasync(fd)
            return
        os.fsync(fd)
        node = self._nodes[fd]
        if node.source.writable and not node.gone:
            self._tree.store.sync(self._tree.file(node))

    def create(self, changes: Changes, parent: Node, name: bytes, new: New, flags: int) -> tuple[Opened, Entry]:
        """Make a new regular file and open it. Raises OSError, EEXIST if there is one."""
        self._make_room()
        flags = flags & _KEPT | os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        mode = ownership.real_mode(stat.S_IFREG, new.owner.mode)
        made: list[int] = []

        def maker(directory: int, called: bytes) -> None:
            made.append(os.open(called, flags, mode, dir_fd=directory))

        try:
            entry = changes.make(parent, name, new, maker)
        except BaseException:
            for fd in made:
                os.close(fd)
            raise
        if self._tree.quota.active:
            self._tree.quota.hold(entry.node, entry.st)
        self._add(entry.node, made[0])
        self._shorten(entry.node, made[0])
        return Opened(made[0], True), entry

    def close(self, fd: int) -> None:
        """Close a file handle. Raises OSError what close(2) says; the handle is gone all the same."""
        node = self._nodes.pop(fd)
        self._takes_capability.discard(fd)
        if node.handles is not None:
            node.handles.remove(fd)
        SHORTCUT.forbid(fd)
        try:
            if node.handles or not self._tree.quota.is_held(node):
                os.close(fd)
            else:
                self._close_last(node, fd)
        finally:
            self._tree.table.settle(node)

    def close_all(self) -> None:
        """Close whatever is open."""
        for fd in list(self._nodes):
            self.close(fd)

    def _close_last(self, node: Node, fd: int) -> None:
        """Close the last descriptor of a file and count what it leaves: some file systems trim it then."""
        st = os.fstat(fd)
        try:
            os.close(fd)  # whatever it says, the descriptor is gone (close(2))
        finally:
            self._tree.quota.closed(node, st if node.gone else self._tree.attributes(node).st)

    def _see_to(self, node: Node, fd: int, *, writing: bool, truncated: bool) -> bool:
        """Do what opening a file brings about. Returns whether what the kernel has cached of it is still right."""
        quota = self._tree.quota
        if truncated and quota.active:
            quota.measured(node, os.fstat(fd))
        if writing and self._privileges.has_capability(node):
            self._takes_capability.add(fd)
        if truncated:
            self._revoke(node, fd)
        self._shorten(node, fd)
        if not node.source.live:
            return True
        st = os.fstat(fd)
        return node.seen == (st.st_ctime_ns, st.st_size)

    def _revoke(self, node: Node, fd: int) -> None:
        self._privileges.revoke_setuid(node)
        if fd in self._takes_capability:
            self._takes_capability.discard(fd)
            self._privileges.revoke_capability(node)

    def _shorten(self, node: Node, fd: int) -> None:
        """Let a file be read without us, and be written if that takes nothing away from it and nobody counts."""
        free = node.source.writable and not self._tree.quota.active and fd not in self._takes_capability
        SHORTCUT.allow(fd, writing=free and not self._privileges.has_setuid(node))

    def _open(self, node: Node, flags: int) -> int:
        # The upper's files always for both: the kernel reads what is around a part of a page before it writes that, and
        # truncates by whichever handle there is.
        flags |= os.O_RDWR if node.source.writable else os.O_RDONLY
        if node.gone:
            if not node.handles:
                raise failure(errno.ESTALE)
            return os.open(at_fd(node.handles[0]), flags | os.O_CLOEXEC)
        directory, name = self._tree.place(node)
        own = node.own and not node.source.writable
        return open_regular(name, flags, directory, node.source, own=own)

    def _make_room(self) -> None:
        """See that there is a descriptor for one more file. To clients our limit is the system's: ENFILE, open(2)."""
        if not self._tree.directories.make_room(len(self._nodes) + 1):
            raise failure(errno.ENFILE)

    def _add(self, node: Node, fd: int) -> None:
        self._nodes[fd] = node
        if node.handles is None:
            node.handles = []
        node.handles.append(fd)
