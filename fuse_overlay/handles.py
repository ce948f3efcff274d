"""Open files. A file handle is the descriptor of the real file itself, as long as there are enough.

Our limit of them is no matter of the clients', who have limits of their own, and together open more than we may. So the
handles beyond it are mere numbers: whoever uses one opens the file for the while.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fuse_overlay import copydata, ownership
from fuse_overlay.errors import failure
from fuse_overlay.inodes import TRANSIENT
from fuse_overlay.kernel.shortcut import SHORTCUT
from fuse_overlay.layers import at_fd, open_regular
from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuse_overlay.aside import Aside
    from fuse_overlay.changes import Changes
    from fuse_overlay.copyup import CopyUp
    from fuse_overlay.creation import New
    from fuse_overlay.entries import Entry
    from fuse_overlay.inodes import Node
    from fuse_overlay.privileges import Privileges
    from fuse_overlay.tree import Tree

# What of open(2)'s flags concerns the real file. Appending is the kernel's with the writeback cache: it knows the size.
# O_DIRECT is for the way between the client and the kernel: our own buffers are not aligned for it.
_KEPT = os.O_SYNC | os.O_DSYNC

# Descriptors for files that can't be opened once more when it is needed: those that have no name at all.
RESERVE = 16


class Opened(NamedTuple):
    """An open file. `keep`: what the kernel has cached of it is still right."""

    handle: int
    keep: bool


class Handles:
    """Opens and closes files. `copyup` and `aside` are None in a read-only overlay."""

    def __init__(self, tree: Tree, copyup: CopyUp | None, aside: Aside | None, privileges: Privileges) -> None:
        self._tree = tree
        self._copyup = copyup
        self._aside = aside
        self._privileges = privileges
        self._nodes: dict[int, Node] = {}
        # Of the handles that are no descriptors, open(2)'s flags.
        self._transient: dict[int, int] = {}
        self._last_transient = TRANSIENT
        # Handles whose next write takes the file's capabilities away. What gets capabilities while it is open keeps
        # them: the data of earlier writes may still be on its way from the kernel's cache.
        self._takes_capability: set[int] = set()
        tree.close_kept = self.close_kept
        tree.table.opened = self.opened

    def open(self, node: Node, flags: int) -> Opened:
        """Open a regular file with open(2)'s flags. Raises OSError."""
        if node.kind != stat.S_IFREG:
            raise failure(errno.EISDIR if node.kind == stat.S_IFDIR else errno.ENXIO)
        lasting = self._has_room(node)
        writing = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
        if writing:
            if self._copyup is None:
                raise failure(errno.EROFS)
            self.close_kept(node)
            self._copyup.node(node, 0 if flags & os.O_TRUNC else None)
        quota = self._tree.quota
        if writing and quota.active:
            quota.hold(node, self._tree.attributes(node).st)
        fd = self._open(node, flags & (_KEPT | os.O_TRUNC))
        handle = self._add(node, fd, flags, lasting=lasting)
        try:
            keep = self._see_to(node, handle, fd, writing=writing, truncated=bool(flags & os.O_TRUNC))
        except BaseException:
            self.close(handle)  # nobody else will: the client has no handle
            raise
        finally:
            if not lasting:
                os.close(fd)
        return Opened(handle, keep)

    def offer(self, node: Node) -> None:
        """Let the helper open a file for reading, if opening it asks for nothing and brings nothing about: a lower
        layer's that nobody changes.
        """
        source = node.source
        if node.kind != stat.S_IFREG or source.writable or source.live or source.gate is not None:
            return
        if node.slow or node.gone or node.parent is None or self._tree.quota.active:
            return
        directory = self._tree.directories.held(node.parent, source)
        if directory >= 0:
            SHORTCUT.offer(node.ino, directory, node.name, os.O_NOATIME if node.own else 0)

    def opened(self, node: Node, fd: int) -> None:
        """The helper has opened a file that was offered to it."""
        self._add(node, fd, os.O_RDONLY, lasting=True)
        self._tree.show(node)
        self._tree.directories.make_room(len(self._nodes) - len(self._transient))

    @contextmanager
    def descriptor(self, handle: int) -> Iterator[int]:
        """A descriptor of an open file, for the while. Raises OSError, ESTALE when the host's file was replaced."""
        if handle < TRANSIENT:
            yield handle
            return
        fd = self._open_again(self._nodes[handle], self._transient[handle])
        try:
            yield fd
        finally:
            os.close(fd)

    def is_slow(self, handle: int) -> bool:
        """Whether who reads from an open file may have to wait."""
        return self._nodes[handle].slow

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Read from an open file. Raises OSError."""
        with self.descriptor(handle) as fd:
            return os.pread(fd, size, offset)

    def write(self, handle: int, data: bytes, offset: int) -> int:
        """Write, and take away what a write takes away. Returns the number of bytes written. Raises OSError.

        The modification time stays. With the writeback cache it is the kernel's to say, which knows when the program
        wrote, and sends it along when it is another than it was (fuse_flush_times in fs/fuse/inode.c).
        """
        node = self._nodes[handle]
        self._revoke(node, handle)
        quota = self._tree.quota
        with self.descriptor(handle) as fd:
            lacking = quota.lacking(len(data))
            if lacking and not copydata.is_data(fd, offset, len(data)):
                raise quota.refuse(lacking)
            self._shorten(node, handle)
            st = os.fstat(fd)
            written = os.pwrite(fd, data, offset)
            os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))
            if quota.active:
                quota.measured(node, os.fstat(fd))
        return written

    def sync(self, handle: int, data_only: bool) -> None:
        """Bring an open file to the disk: fsync(2), or fdatasync(2). Raises OSError.

        Handles that aren't known here are the helper's, of files that only it knows: of layers that nobody changes.
        """
        node = self._nodes.get(handle)
        if node is None or not node.source.writable:
            return
        with self.descriptor(handle) as fd:
            if data_only:
                os.fdatasync(fd)
                return
            os.fsync(fd)
        if node.source.writable and not node.gone:
            self._tree.store.sync(self._tree.file(node))

    def create(self, changes: Changes, parent: Node, name: bytes, new: New, flags: int) -> tuple[Opened, Entry]:
        """Make a new regular file and open it. Raises OSError, EEXIST if there is one."""
        lasting = self._has_room()
        how = flags & _KEPT | os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        mode = ownership.real_mode(stat.S_IFREG, new.owner.mode)
        made: list[int] = []

        def maker(directory: int, called: bytes) -> None:
            made.append(os.open(called, how, mode, dir_fd=directory))

        try:
            entry = changes.make(parent, name, new, maker)
        except BaseException:
            for fd in made:
                os.close(fd)
            raise
        if self._tree.quota.active:
            self._tree.quota.hold(entry.node, entry.st)
        handle = self._add(entry.node, made[0], flags, lasting=lasting)
        self._shorten(entry.node, handle)
        if not lasting:
            os.close(made[0])
        return Opened(handle, True), entry

    def close(self, handle: int) -> None:
        """Close a file handle. Raises OSError what close(2) says; the handle is gone all the same."""
        node = self._nodes.pop(handle)
        self._takes_capability.discard(handle)
        if node.handles is not None:
            node.handles.remove(handle)
        SHORTCUT.forbid(handle)
        self._tell_of(node)
        flags = self._transient.pop(handle, None)
        try:
            if not node.handles:
                self._close_last(node, handle, flags)
            else:
                self._close(node, handle)
        finally:
            self._tree.table.settle(node)

    def close_kept(self, node: Node) -> None:
        """Close what the helper keeps open of a file, as before it loses its name."""
        fd = SHORTCUT.take_kept(node.ino)
        if fd >= 0:
            self.close(fd)

    def close_all(self) -> None:
        """Close whatever is open."""
        for handle in list(self._nodes):
            self.close(handle)

    def _close_last(self, node: Node, handle: int, flags: int | None) -> None:
        """Close the last handle of a file, and count what it leaves: some file systems trim it then.

        `flags`: those of a handle that is no descriptor.
        """
        is_counted = self._tree.quota.is_held(node)
        fd = self._open_again(node, flags) if flags is not None and is_counted else handle
        try:
            if self._aside is not None:
                self._aside.release(node)
            st = os.fstat(fd) if is_counted else None
        except BaseException:
            self._close(node, fd)
            raise
        try:
            self._close(node, fd)  # whatever it says, the descriptor is gone (close(2))
        finally:
            if st is not None:
                self._tree.quota.closed(node, st if node.gone else self._tree.attributes(node).st)

    def _close(self, node: Node, handle: int) -> None:
        """Close a handle that is a descriptor."""
        if handle >= TRANSIENT:
            return
        if node.slow:
            self._tree.close_later(handle)  # FUSE waits for an answer then
        else:
            os.close(handle)

    def _see_to(self, node: Node, handle: int, fd: int, *, writing: bool, truncated: bool) -> bool:
        """Do what opening a file brings about. Returns whether what the kernel has cached of it is still right."""
        quota = self._tree.quota
        if truncated and quota.active:
            quota.measured(node, os.fstat(fd))
        if writing and self._privileges.has_capability(node):
            self._takes_capability.add(handle)
        if truncated:
            self._revoke(node, handle)
        self._shorten(node, handle, keeping=not writing and not node.source.live)
        if not node.source.live:
            return True
        st = self._tree.found_out(node) or os.fstat(fd)
        return node.seen == (st.st_ctime_ns, st.st_size)

    def _tell_of(self, node: Node) -> None:
        """Let the helper know of a file that one of its descriptors is about to be closed."""
        SHORTCUT.hide(node.ino)
        if node.handles:
            self._tree.show(node)
        elif node.gone:
            SHORTCUT.show_gone(node.ino)
        else:
            self.offer(node)

    def _revoke(self, node: Node, handle: int) -> None:
        self._privileges.revoke_setuid(node)
        if handle in self._takes_capability:
            self._takes_capability.discard(handle)
            self._privileges.revoke_capability(node)

    def _shorten(self, node: Node, handle: int, *, keeping: bool = False) -> None:
        """Let a file be read without us, and be written if that takes nothing away from it and nobody counts.

        `keeping`: its descriptor is as good for the next one who reads it.
        """
        if node.slow:
            return  # who reads it may have to wait, and the helper would keep all others waiting
        free = node.source.writable and not self._tree.quota.active and handle not in self._takes_capability
        keeping = keeping and not self._tree.quota.active
        SHORTCUT.allow(handle, writing=free and not self._privileges.has_setuid(node), keeping=keeping)
        self._tree.show(node)

    def _open(self, node: Node, flags: int) -> int:
        # The upper's files always for both: the kernel reads what is around a part of a page before it writes that, and
        # truncates by whichever handle there is.
        flags |= os.O_RDWR if node.source.writable else os.O_RDONLY
        if node.gone and node.aside is None:
            if node.descriptor is None:
                raise failure(errno.ESTALE)
            return os.open(at_fd(node.descriptor), flags | os.O_CLOEXEC)
        known = self._tree.known
        if known is not None and node in known.files and self._tree.found_out(node) is not None:
            return known.files.pop(node)
        directory, name = self._tree.place(node)
        own = node.own and not node.source.writable
        return open_regular(name, flags, directory, node.source, own=own)

    def _open_again(self, node: Node, flags: int) -> int:
        fd = self._open(node, flags & _KEPT)
        st = os.fstat(fd)
        if (st.st_dev, st.st_ino) != node.key:
            os.close(fd)
            raise failure(errno.ESTALE)
        return fd

    def _has_room(self, node: Node | None = None) -> bool:
        """See if there is a descriptor to keep for one more open file; `node`: which one, if it isn't a new one.

        Raises OSError ENFILE if it can't be done without.
        """
        needed = len(self._nodes) - len(self._transient) + 1
        if node is None or not node.gone or node.aside is not None:
            return self._make_room(needed + RESERVE)
        if not self._make_room(needed):
            raise failure(errno.ENFILE)
        return True

    def _make_room(self, files: int) -> bool:
        """See that so many files can be open, those included that are kept. False: there are too many."""
        if self._tree.directories.make_room(files):
            return True
        kept = SHORTCUT.take_all_kept()
        for fd in kept:
            self.close(fd)
        return bool(kept) and self._tree.directories.make_room(files - len(kept))

    def _add(self, node: Node, fd: int, flags: int, *, lasting: bool) -> int:
        """Take in a file that was opened with these flags. Returns the handle: if `lasting`, the descriptor."""
        handle = fd
        if not lasting:
            self._last_transient += 1
            handle = self._last_transient
            self._transient[handle] = flags
        self._nodes[handle] = node
        if node.handles is None:
            node.handles = []
        node.handles.insert(0 if lasting else len(node.handles), handle)
        return handle
