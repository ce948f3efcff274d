"""The work directory: where new files of the upper get ready before they are renamed into place."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay import whiteout
from fuse_overlay.descent import Descent
from fuse_overlay.errors import OverlayError
from fuse_overlay.kernel import paths
from fuse_overlay.layers import at
from fuse_overlay.times import keeping_times

if TYPE_CHECKING:
    from fuse_overlay.layers import Layer

# No other program's names: overlayfs calls its "work" and "#HEX", fuse-overlayfs "work".
_TEMPORARY = b"#fuse-overlay-"
_PROBE_XATTR = b"user.fuse-overlay.probe"


class Work:
    """Temporary files beside the upper, and which kinds of marks and renames its file system can do.

    `fd`: the directory. `devices`: whiteouts are character devices. `xattrs`: files can have user.* attributes.
    """

    def __init__(self, upper: Layer, path: bytes) -> None:
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise OverlayError(f"cannot open workdir {os.fsdecode(path)}: {error.strerror}") from None
        if os.fstat(self.fd).st_dev != upper.root.dev:
            raise OverlayError(
                f"workdir {os.fsdecode(path)} is not on the file system of upperdir {os.fsdecode(upper.path)}"
            )
        self._count = 0
        try:
            self._clean()
            self.devices = self._probe_devices()
            self.xattrs = self._probe_xattrs()
        except OSError as error:
            raise OverlayError(f"cannot use workdir {os.fsdecode(path)}: {error.strerror}") from None

    def name(self) -> bytes:
        """A name in the work directory that is free."""
        self._count += 1
        return _TEMPORARY + b"%x" % self._count

    def whiteout(self) -> bytes:
        """Make a whiteout (only where `devices`) and return its name."""
        name = self.name()
        os.mknod(name, stat.S_IFCHR | 0o600, 0, dir_fd=self.fd)
        return name

    def discard(self, name: bytes) -> None:
        """Remove a file or a whole tree from the work directory."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM):
                raise
            remove_tree(self.fd, name)

    def move_in(self, name: bytes, directory: int, target: bytes) -> None:
        """Put what is ready into place, over a file or a whiteout there, at once."""
        os.rename(name, target, src_dir_fd=self.fd, dst_dir_fd=directory)

    def swap_in(self, name: bytes, directory: int, target: bytes) -> None:
        """Exchange what is ready with what is at the target, and discard the latter."""
        try:
            paths.rename(self.fd, name, directory, target, paths.RENAME_EXCHANGE)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
            # No exchange on this file system (NFS): two steps, and a crash between them leaves the name free.
            aside = self.name()
            os.rename(target, aside, src_dir_fd=directory, dst_dir_fd=self.fd)
            self.move_in(name, directory, target)
            self.discard(aside)
        else:
            self.discard(name)

    def set_opaque(self, directory: int, name: bytes = b".") -> None:
        """Mark an upper directory as hiding what is below it: `name` in the directory `directory`, or that itself."""
        place = at(directory, name)
        if self.xattrs:
            os.setxattr(place, whiteout.OPAQUE_XATTR, whiteout.OPAQUE_VALUE)
        else:
            with keeping_times(directory, name):
                os.close(os.open(place + b"/" + whiteout.OPAQUE_FILE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def _clean(self) -> None:
        """Remove what an earlier server, killed in the middle of something, left."""
        for name in os.listdir(self.fd):
            left = os.fsencode(name)
            if left.startswith(_TEMPORARY):
                self.discard(left)

    def _probe_devices(self) -> bool:
        try:
            self.discard(self.whiteout())
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP, errno.EACCES):
                return False
            raise
        return True

    def _probe_xattrs(self) -> bool:
        name = self.name()
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self.fd))
        try:
            os.setxattr(at(self.fd, name), _PROBE_XATTR, b"y")
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES):
                return False
            raise
        finally:
            self.discard(name)
        return True


def remove_tree(directory: int, name: bytes) -> None:
    """Remove a directory and all in it, following no symbolic link. Raises OSError."""
    with Descent(directory, name) as way:
        called: list[bytes] = []
        left = [_remove_entries(way.fd)]
        while left[-1] or called:
            if left[-1]:
                called.append(left[-1].pop())
                way.enter(called[-1])
                left.append(_remove_entries(way.fd))
            else:
                left.pop()
                way.leave()
                os.rmdir(called.pop(), dir_fd=way.fd)
    os.rmdir(name, dir_fd=directory)


def _remove_entries(fd: int) -> list[bytes]:
    """Remove all in a directory but the directories that aren't empty. Returns their names."""
    full = []
    for name in map(os.fsencode, os.listdir(fd)):
        try:
            os.unlink(name, dir_fd=fd)
        except IsADirectoryError:
            try:
                os.rmdir(name, dir_fd=fd)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                full.append(name)
    return full
