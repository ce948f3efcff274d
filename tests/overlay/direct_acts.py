"""The acts of acts.py on an overlay without a mount, with what the kernel does before a file system is asked."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from fuse_overlay.creation import Caller
from fuse_overlay.errors import failure
from tests.overlay.acts import Picture, do, facts

if TYPE_CHECKING:
    from fuse_overlay.entries import Entry
    from tests.overlay.acts import Act
    from tests.overlay.conftest import Driver

_WRITING = os.O_WRONLY | os.O_RDWR


class DirectActs:
    """Does to an overlay what Acts does to a directory."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.overlay = driver.overlay
        # The handle and the inode number of each slot.
        self.slots: dict[int, tuple[int, int, int]] = {}

    def do(self, act: Act) -> object:
        """Do one act. Returns what it ends with."""
        outcome = do(self, act)
        self._forget_gone()
        return outcome

    def close_all(self) -> None:
        """Close all slots."""
        for slot in list(self.slots):
            self.close(slot)

    def forget(self) -> None:
        """Take back all look-ups, as the kernel does when it is short of memory."""
        held = {number for _, number, _ in self.slots.values()}
        for node in list(self.overlay.tree.table.nodes.values()):
            if node.ino not in held:
                self.overlay.forget(node.ino, node.lookups)

    def write(self, path: str, flags: int, offset: int, data: bytes) -> None:
        """Open (perhaps make), write and close."""
        found = self._find(path)
        if found is None:
            if not flags & os.O_CREAT:
                raise failure(errno.ENOENT)
            parent, name = self.driver.split(path)
            opened, entry = self.overlay.create(parent, name, 0o644, os.O_WRONLY, Caller())
        elif flags & os.O_EXCL and flags & os.O_CREAT:
            raise failure(errno.EEXIST)
        else:
            self._check_open(found, os.O_WRONLY | flags)
            opened, entry = self.overlay.open(found.node.ino, os.O_WRONLY | flags), found
        if flags & os.O_APPEND:
            offset = self.overlay.getattr(entry.node.ino).st.st_size
        self._write(opened.handle, entry.node.ino, data, offset)
        self.overlay.release(opened.handle)

    def truncate(self, path: str, size: int) -> None:
        """truncate(2)."""
        self.driver.set(path, size=size)

    def mkdir(self, path: str, mode: int) -> None:
        """mkdir(2)."""
        self.driver.mkdir(path, mode)

    def symlink(self, path: str) -> None:
        """symlink(2), to nothing."""
        self.driver.symlink(path, b"nowhere")

    def mknod(self, path: str, kind: int) -> None:
        """Make a FIFO, a socket or an empty file."""
        self.overlay.mknod(*self.driver.split(path), kind | 0o644, Caller())

    def link(self, old: str, new: str) -> None:
        """link(2)."""
        self.driver.link(old, new)

    def unlink(self, path: str) -> None:
        """unlink(2)."""
        self.driver.unlink(path)

    def rmdir(self, path: str) -> None:
        """rmdir(2)."""
        self.driver.rmdir(path)

    def rename(self, old: str, new: str, flags: int) -> None:
        """renameat2(2)."""
        self.driver.rename(old, new, flags)

    def chmod(self, path: str, mode: int) -> None:
        """chmod(2)."""
        self.driver.set(path, mode=mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        """lchown(2)."""
        wanted = {name: number for name, number in (("uid", uid), ("gid", gid)) if number != -1}
        self.driver.set(path, **wanted)

    def utimens(self, path: str, atime: int, mtime: int) -> None:
        """utimensat(2), in ns."""
        self.driver.set(path, atime=atime, mtime=mtime)

    def setxattr(self, path: str, name: str, value: bytes, flags: int) -> None:
        """lsetxattr(2)."""
        number = self._carrier(path)
        there = os.fsencode(name) in self.overlay.listxattr(number)
        if flags == os.XATTR_CREATE and there:
            raise failure(errno.EEXIST)
        if flags == os.XATTR_REPLACE and not there:
            raise failure(errno.ENODATA)
        self.overlay.setxattr(number, os.fsencode(name), value, Caller())

    def removexattr(self, path: str, name: str) -> None:
        """lremovexattr(2)."""
        self.overlay.removexattr(self._carrier(path), os.fsencode(name))

    def open(self, slot: int, path: str, flags: int) -> None:
        """Open a file that is there, into a slot."""
        if slot in self.slots:
            self.close(slot)
        entry = self.driver.entry(path)
        self._check_open(entry, flags)
        self.slots[slot] = (self.overlay.open(entry.node.ino, flags).handle, entry.node.ino, flags)

    def close(self, slot: int) -> None:
        """Close a slot."""
        if slot in self.slots:
            self.overlay.release(self.slots.pop(slot)[0])

    def pwrite(self, slot: int, offset: int, data: bytes) -> int:
        """pwrite(2)."""
        if slot not in self.slots:
            return 0
        handle, number, flags = self.slots[slot]
        if not flags & _WRITING:
            raise failure(errno.EBADF)
        return self._write(handle, number, data, offset)

    def ftruncate(self, slot: int, size: int) -> None:
        """ftruncate(2)."""
        if slot in self.slots:
            _, number, flags = self.slots[slot]
            if not flags & _WRITING:
                raise failure(errno.EINVAL)
            self.driver.set_by_number(number, size=size)

    def fchmod(self, slot: int, mode: int) -> None:
        """fchmod(2)."""
        if slot in self.slots:
            self.driver.set_by_number(self.slots[slot][1], mode=mode)

    def seen_by(self, slot: int) -> object:
        """What is seen of an open file, whether it has a name or not."""
        if slot not in self.slots:
            return None
        handle, number, flags = self.slots[slot]
        entry = self.overlay.getattr(number)
        content = None if flags & os.O_ACCMODE == os.O_WRONLY else self.overlay.read(handle, 1 << 20, 0)
        return entry.st.st_size, entry.nlink, entry.owner.mode, content

    def picture(self) -> Picture:
        """All that the overlay shows, by path."""
        found: Picture = {}
        self._look("", found)
        return found

    def _forget_gone(self) -> None:
        """Take back the look-ups of what has no name and isn't open any more, as the kernel does at once."""
        for node in list(self.overlay.tree.table.nodes.values()):
            if node.gone and not node.handles:
                self.overlay.forget(node.ino, node.lookups)

    def _look(self, above: str, found: Picture) -> None:
        handle = self.overlay.opendir(self.driver.ino(above))
        listed = [(os.fsdecode(name), entry.node.ino) for name, entry, _ in self.overlay.readdir(handle, 0)]
        self.overlay.releasedir(handle)
        for name, number in listed:
            if name in (".", ".."):
                continue
            path = f"{above}/{name}".lstrip("/")
            entry = self.driver.entry(path)
            assert number == entry.node.ino, path
            content = b""
            if entry.node.kind == stat.S_IFREG:
                content = self.driver.read(path)
            elif entry.node.kind == stat.S_IFLNK:
                content = self.overlay.readlink(number)
            carries = entry.node.kind in (stat.S_IFREG, stat.S_IFDIR)
            listing = self.overlay.listxattr(number) if carries else []
            xattrs = {os.fsdecode(xattr): self.overlay.getxattr(number, xattr) for xattr in listing}
            ids = (entry.owner.uid, entry.owner.gid)
            found[path] = facts(entry.st, entry.owner.mode, ids, entry.nlink, number, content, xattrs)
            if entry.node.kind == stat.S_IFDIR:
                self._look(path, found)

    def _write(self, handle: int, number: int, data: bytes, offset: int) -> int:
        """Write, and send the time of that, as the kernel does."""
        written = self.overlay.write(handle, data, offset)
        self.driver.set_by_number(number, mtime=time.time_ns())
        return written

    def _find(self, path: str) -> Entry | None:
        try:
            return self.driver.entry(path)
        except FileNotFoundError:
            return None

    def _carrier(self, path: str) -> int:
        """The inode number of a file that can have user.* attributes; EPERM for others (xattr(7))."""
        entry = self.driver.entry(path)
        if entry.node.kind not in (stat.S_IFREG, stat.S_IFDIR):
            raise failure(errno.EPERM)
        return entry.node.ino

    def _check_open(self, entry: Entry, flags: int) -> None:
        if entry.node.kind == stat.S_IFLNK:
            raise failure(errno.ELOOP)
        if entry.node.kind == stat.S_IFDIR and flags & (_WRITING | os.O_CREAT | os.O_TRUNC):
            raise failure(errno.EISDIR)


