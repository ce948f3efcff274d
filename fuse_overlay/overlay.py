"""The overlay: what each file system request means, in terms of inode numbers and plain data. No FUSE in here."""

from __future__ import annotations

import errno
import gc
import os
import resource
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from fuse_overlay import indexes, quota, stubs, usage
from fuse_overlay.aside import Aside
from fuse_overlay.changes import Changes, maker_of
from fuse_overlay.copyup import CopyUp
from fuse_overlay.creation import ROOT, of_new
from fuse_overlay.entries import Missing
from fuse_overlay.errors import OverlayError, failure
from fuse_overlay.guard import Guard
from fuse_overlay.handles import Handles
from fuse_overlay.kernel import shortcut
from fuse_overlay.layers import Budget, at_fd, open_for_listing
from fuse_overlay.links import Links
from fuse_overlay.listing import Listing
from fuse_overlay.metadata import Metadata
from fuse_overlay.privileges import Privileges
from fuse_overlay.rename import Rename
from fuse_overlay.tree import Tree
from fuse_overlay.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from fuse_overlay.config import Config
    from fuse_overlay.creation import Caller, New
    from fuse_overlay.entries import Entry
    from fuse_overlay.handles import Opened
    from fuse_overlay.inodes import Node
    from fuse_overlay.metadata import Wanted
    from fuse_overlay.mounts import Mounts

R = TypeVar("R")

# Descriptors of directories that are kept open at most, and of anything where the process has no limit.
_DIRECTORIES_MAX = 4096
_DESCRIPTORS_MAX = 1 << 20
# Descriptors that are neither open files nor those directories: the process's own, and what a request opens in passing.
_DESCRIPTORS_ELSE = 64


class Writer:
    """What only an overlay with an upper has."""

    __slots__ = ("_quota", "aside", "changes", "copyup", "rename", "work")

    def __init__(self, tree: Tree, path: bytes) -> None:
        upper = tree.upper
        if upper is None:
            raise OverlayError("a work directory needs an upper directory")
        self.work = Work(upper, path)
        links = Links(upper, self.work, tree.store, tree.table.numbers)
        self.copyup = CopyUp(tree, upper, self.work, links)
        self.aside = Aside(tree, upper, self.work, self.copyup)
        self.changes = Changes(tree, upper, self.work, self.copyup, self.aside)
        self.rename = Rename(tree, upper, self.work, self.copyup, self.changes)
        tree.use(self.work.fd, xattrs=self.work.xattrs, devices=self.work.devices)
        tree.use_links(links, self.copyup.relink)
        self._quota = tree.quota
        noted = usage.take(self.work.fd)  # in any case: it is true no longer
        if self._quota.active:
            self._quota.bytes, self._quota.inodes = noted or usage.count(upper.root.fd, self.work.fd)

    def close(self) -> None:
        """Note what the upper holds, if that was counted, and close the work directory."""
        counted = self._quota
        try:
            if counted.active:
                usage.leave(self.work.fd, usage.Usage(counted.bytes, counted.inodes))
        except OSError:
            pass  # no space, say: the next server counts
        os.close(self.work.fd)


class Overlay:
    """One overlay file system.

    Files are named by their inode number, or by a directory's number and a name. All methods raise OSError with the
    errno that the caller's system call is to end with. Every method that hands out an entry from a name counts one
    look-up of its node, which `forget` takes back.
    """

    def __init__(self, config: Config, mounts: Mounts | None = None) -> None:
        """Open the layers. Raises OverlayError. Sets the process's umask to 0: modes are what the callers ask for."""
        os.umask(0)
        budget = _descriptors(len(config.lowers))
        self.tree = Tree(config, budget, mounts)
        self._writer: Writer | None = None
        if config.upper is not None:
            if config.work is None:
                raise OverlayError("an upper directory needs a work directory")
            self._writer = Writer(self.tree, config.work)
        copyup, aside = (self._writer.copyup, self._writer.aside) if self._writer is not None else (None, None)
        self.copyup = copyup
        privileges = Privileges(self.tree)
        try:
            self._guard = Guard(self.tree, config.read_only)
        except ValueError as error:
            raise OverlayError(f"cannot make read-only: {error}") from None
        self._handles = Handles(self.tree, copyup, aside, privileges)
        shortcut.SHORTCUT.keep(budget.together // 4)
        self._metadata = Metadata(self.tree, copyup, privileges)
        self._listings: dict[int, Listing] = {}
        self._last_listing = 0
        self._given = 0  # entries since the last listing began, and how often attributes had been asked for by then
        self._asked = 0
        self._is_asked = False
        self._opened = 0
        self._is_opened = False
        self._has_shrunk = False

    def close(self) -> None:
        """Close all descriptors. The overlay is of no use any more."""
        self._handles.close_all()
        if self._writer is not None:
            self._writer.close()
        self.tree.close()

    # Looking

    def lookup(self, parent: int, name: bytes) -> Entry | Missing:
        """What a name stands for."""
        above = self.tree.node(parent)
        entry = self.tree.lookup(above, name)
        if not isinstance(entry, Missing):
            entry.node.lookups += 1
            self._handles.offer(entry.node)
            if self.tree.is_findable(above):
                self.tree.show(above)  # who looks for a name often looks for more
        elif not entry.live:
            self.tree.show(above)
        return entry

    def forget(self, ino: int, count: int) -> None:
        """The kernel has forgotten `count` look-ups of this inode."""
        node = self.tree.table.nodes.get(ino)
        if node is None:
            shortcut.SHORTCUT.forget_stub(ino, count)
            return
        if node.handles and node.lookups <= count:
            self._handles.close_kept(node)
        self.tree.table.forget(node, count)
        self._has_shrunk |= self.tree.table.shrink()

    def tidy(self) -> None:
        """Give back the memory of what was forgotten, once all is forgotten that there was to."""
        if self._has_shrunk:
            self._has_shrunk = False
            gc.collect()  # empties Python's lists of free tuples, which keep whole arenas from being given back

    def path(self, ino: int, name: bytes = b"") -> bytes:
        """The path of a file, or of a name in a directory, from the root; empty for a file that isn't known any more.

        Of a file with hard links it is one of them, of one that was removed the last.
        """
        node = self.tree.table.nodes.get(ino)
        if node is None:
            return b""
        return b"/" + (node.path_of(name) if name else node.path)

    def getattr(self, ino: int) -> Entry:
        """The attributes of a file."""
        node = self.tree.node(ino)
        entry = self.tree.attributes(node)
        self.tree.show(node)
        return entry

    def readlink(self, ino: int) -> bytes:
        """Where a symbolic link points."""
        node = self.tree.node(ino)
        if self.tree.known is not None and node in self.tree.known.targets:
            return self.tree.known.targets[node]
        directory, name = self.tree.place(node)
        return os.readlink(name, dir_fd=directory)

    def statfs(self) -> os.statvfs_result:
        """The file system that new files land in, or the first layer's."""
        return quota.within(self.tree.quota, os.statvfs(at_fd(self.tree.layers[0].root.fd)))

    # Directories

    def opendir(self, ino: int) -> int:
        """Open a directory; returns a handle for `readdir` and `releasedir` that says if its entries can be cached."""
        node = self.tree.node(ino)
        self._last_listing += 2  # the helper's are odd
        handle = self._last_listing | (shortcut.CACHED_DIRECTORY if node.settled else 0)
        self._listings[handle] = Listing(node)
        stubs.let_list(self.tree, node, handle)
        return handle

    def readdir(self, handle: int, start: int) -> Iterator[tuple[bytes, Entry, int]]:
        """Names, entries and cookies from the cookie `start` on. The caller reports what it used to `count`."""
        entries = self.listing(handle).entries(self.tree, start)
        if start == 0:
            self._notice_readers()
        return self._looked_at(entries) if self._is_asked else entries

    def listing(self, handle: int) -> Listing:
        """An open directory. Raises OSError."""
        listing = self._listings.get(handle)
        if listing is None:
            listing = Listing(self.tree.node(shortcut.SHORTCUT.directory(handle)))
            self._listings[handle] = listing
            shortcut.SHORTCUT.know_directory(handle)
        return listing

    def count(self, node: Node) -> None:
        """An entry that `readdir` gave went to the kernel, which counts as a look-up."""
        node.lookups += 1
        self._given += 1
        if self._is_opened:
            self._handles.offer(node)

    def settle(self, node: Node) -> None:
        """An entry that `readdir` gave did not go to the kernel."""
        self.tree.table.settle(node)

    def releasedir(self, handle: int) -> None:
        """Close a directory. Who opens it next need not ask."""
        node = self._listings.pop(handle).node
        if node.settled:
            self.tree.show(node)

    def fsyncdir(self, handle: int) -> None:
        """Bring a directory's entries to the disk."""
        node = self.listing(handle).node
        if node.source.writable and not node.gone:
            directory = self.tree.directories.get(node, node.source).fd
            indexes.sync(directory)
            fd = open_for_listing(directory)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    # Names

    def create(self, parent: int, name: bytes, mode: int, flags: int, caller: Caller) -> tuple[Opened, Entry]:
        """Make a regular file and open it."""
        above = self.tree.node(parent)
        self._guard.make(above, name, stat.S_IFREG)
        new = self._new(above, stat.S_IFREG | mode, caller)
        opened, entry = self._handles.create(self._write().changes, above, name, new, flags)
        entry.node.lookups += 1
        return opened, entry

    def mknod(self, parent: int, name: bytes, mode: int, caller: Caller) -> Entry:
        """Make a directory, file, FIFO or socket, as the type bits of `mode` say."""
        return self._make(parent, name, mode, caller)

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Entry:
        """Make a symbolic link."""
        return self._make(parent, name, stat.S_IFLNK | 0o777, caller, target)

    def link(self, ino: int, parent: int, name: bytes) -> Entry:
        """Give a file one more name."""
        node, above = self.tree.node(ino), self.tree.node(parent)
        self._guard.change(node)
        self._guard.move(above, name)
        entry = self._write().changes.link(node, above, name)
        entry.node.lookups += 1
        return entry

    def unlink(self, parent: int, name: bytes) -> None:
        """Take away the name of anything but a directory."""
        above = self.tree.node(parent)
        self._guard.remove(above, name)
        self._write().changes.unlink(above, name)

    def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty directory."""
        above = self.tree.node(parent)
        self._guard.remove(above, name)
        self._write().changes.rmdir(above, name)

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        """Rename, with renameat2(2)'s flags."""
        above, new_above = self.tree.node(parent), self.tree.node(new_parent)
        self._guard.move(above, name)
        self._guard.move(new_above, new_name)
        self._write().rename.rename(above, name, new_above, new_name, flags)

    # Files

    def open(self, ino: int, flags: int) -> Opened:
        """Open a regular file."""
        node = self.tree.node(ino)
        if flags & (os.O_ACCMODE | os.O_TRUNC):
            self._guard.change(node)
        return self._handles.open(node, flags)

    def opened(self, ino: int, fd: int) -> None:
        """The helper has opened a file that was offered to it, for reading."""
        self._handles.opened(self.tree.node(ino), fd)

    def mode_set(self, ino: int, mode: int) -> None:
        """The helper has set the permissions of a file that has no record."""
        node = self.tree.node(ino)
        node.owner = self.tree.owner(node)._replace(mode=mode)
        self.tree.show(node)  # what was noted before may have shown the old ones once more

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Read from an open file."""
        return self._handles.read(handle, size, offset)

    def write(self, handle: int, data: bytes, offset: int) -> int:
        """Write to an open file; returns the number of bytes written."""
        return self._handles.write(handle, data, offset)

    def descriptor(self, handle: int) -> AbstractContextManager[int]:
        """A descriptor of an open file's real file, for the time of the context."""
        return self._handles.descriptor(handle)

    def is_slow(self, handle: int) -> bool:
        """Whether who reads from an open file may have to wait."""
        return self._handles.is_slow(handle)

    def release(self, handle: int) -> None:
        """Close a file handle."""
        self._handles.close(handle)

    def fsync(self, handle: int, data_only: bool) -> None:
        """Bring an open file to the disk."""
        self._handles.sync(handle, data_only)

    def setattr(self, ino: int, wanted: Wanted) -> Entry:
        """Change attributes."""
        node = self._changing(ino)
        return self._weighed(node, lambda: self._metadata.change(node, wanted))

    def getxattr(self, ino: int, name: bytes) -> bytes:
        """The value of an extended attribute."""
        return self._metadata.read(self.tree.node(ino), name)

    def listxattr(self, ino: int) -> list[bytes]:
        """The names of the extended attributes."""
        return self._metadata.names(self.tree.node(ino))

    def setxattr(self, ino: int, name: bytes, value: bytes, caller: Caller = ROOT) -> None:
        """Set an extended attribute."""
        node = self._changing(ino)
        self._weighed(node, lambda: self._metadata.write(node, name, value, caller))

    def removexattr(self, ino: int, name: bytes) -> None:
        """Remove an extended attribute."""
        node = self._changing(ino)
        self._weighed(node, lambda: self._metadata.remove(node, name))

    def _notice_readers(self) -> None:
        """Notice what who lists directories does with what is in them: asks for the extended attributes of all, as
        `ls -l` does, or opens most, as `grep -r` does. Several may do so at once, hence some memory.
        """
        if self._given:
            asked, opened = shortcut.SHORTCUT.asked_for_attributes(), shortcut.SHORTCUT.opened_so_far()
            self._is_asked = self._given <= asked - self._asked
            self._is_opened = self._given <= 2 * (opened - self._opened)
            self._given //= 2
            self._asked = asked - (asked - self._asked) // 2
            self._opened = opened - (opened - self._opened) // 2

    def _looked_at(self, entries: Iterator[tuple[bytes, Entry, int]]) -> Iterator[tuple[bytes, Entry, int]]:
        """Find out which files have no extended attributes before anybody asks, so that the helper can say it."""
        for given in entries:
            node = given[1].node
            if node.attributed is None and not node.source.live and not node.slow:
                with suppress(OSError):  # who asks will learn of it
                    self.tree.note_attributed(node, bool(self.tree.extended.names(self.tree.file(node))))
            yield given

    def _changing(self, ino: int) -> Node:
        node = self.tree.node(ino)
        self._guard.change(node)
        return node

    def _weighed(self, node: Node, change: Callable[[], R]) -> R:
        """Change a file, and count what its blocks are then."""
        counted = self.tree.quota
        if not counted.active:
            return change()
        if node.source.writable:
            counted.expect(node, self.tree.attributes(node).st)
        try:
            return change()
        finally:
            if node.source.writable:
                counted.measured(node, self.tree.attributes(node).st)

    def _write(self) -> Writer:
        if self._writer is None:
            raise failure(errno.EROFS)
        return self._writer

    def _new(self, parent: Node, mode: int, caller: Caller) -> New:
        return of_new(mode, caller, self.tree.owner(parent), self.tree.default_acl(parent))

    def _make(self, parent: int, name: bytes, mode: int, caller: Caller, target: bytes = b"") -> Entry:
        changes = self._write().changes
        above = self.tree.node(parent)
        self._guard.make(above, name, stat.S_IFMT(mode))
        new = self._new(above, mode, caller)
        entry = changes.make(above, name, new, maker_of(new, target))
        entry.node.lookups += 1
        return entry


def _descriptors(layers: int) -> Budget:
    """How many descriptors there are for directories and files. Raises the limit as far as it goes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit = _DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else hard
    together = limit - _DESCRIPTORS_ELSE - layers
    return Budget(min(_DIRECTORIES_MAX, together // 2), together)
