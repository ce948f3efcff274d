"""What stands where nothing is: made, told from what others have made there, and removed."""

from __future__ import annotations

import errno
import os
import stat

from fuse_overlay.tuples import NamedTuple
from rootless_sb.kernel import files
from rootless_sb.unasked import DIRECTORY, FILE, LINK, SOCKET

_NOWHERE = "/proc/held-by-sb"  # and nobody can make it
_FILE_MODE = 0o444
_FILE_MOST = 2  # bytes: what `unasked` has
_GONE = (errno.ENOENT, errno.ENOTDIR)
_IN_USE = (errno.ENOTEMPTY, errno.EEXIST)  # rmdir(2) may say either


class StandIn(NamedTuple):
    """One by its kind (`unasked`) and absolute path. `look`: how it looked once it was made, "" if that isn't noted."""

    kind: str
    path: str
    look: str = ""


def make(kind: str, path: str, content: bytes) -> str:
    """Make one; how it looks. A file system may fix owners and modes (vfat, CIFS), and a directory have an ACL for what
    is made in it, so that isn't known before. Raises OSError.
    """
    if kind == DIRECTORY:
        os.mkdir(path, 0o755)
    elif kind == LINK:
        os.symlink(_NOWHERE, path)
    elif kind == FILE or not _made_socket(path):
        _make_file(path, content)
    return _look(os.lstat(path))


def may_be(kind: str, path: str) -> bool:
    """Whether what is at a path may be a stand-in, whoever has made it. Raises OSError."""
    st = os.lstat(path)
    if stat.S_ISDIR(st.st_mode):
        return kind == DIRECTORY
    if stat.S_ISLNK(st.st_mode):
        return os.readlink(path) == _NOWHERE
    return stat.S_ISSOCK(st.st_mode) or (stat.S_ISREG(st.st_mode) and st.st_size <= _FILE_MOST)


def is_there(each: StandIn) -> bool:
    """Whether it is, still, at its path. Raises OSError."""
    if not may_be(each.kind, each.path):
        return False
    st = os.lstat(each.path)
    if each.kind == DIRECTORY:
        return stat.S_ISDIR(st.st_mode)
    if each.look:
        return each.look == _look(st)
    if st.st_uid != os.geteuid():
        return False
    if stat.S_ISREG(st.st_mode):
        return each.kind != LINK and stat.S_IMODE(st.st_mode) == _FILE_MODE
    if stat.S_ISSOCK(st.st_mode):
        return each.kind == SOCKET and stat.S_IMODE(st.st_mode) == 0
    return each.kind == LINK


def remove(each: StandIn) -> bool:
    """Remove it, if it is there and nothing is in it; False if who calls may not, or can't see that. Raises OSError."""
    try:
        if is_there(each):
            (os.rmdir if each.kind == DIRECTORY else os.unlink)(each.path)
    except PermissionError:
        return False
    except OSError as error:
        if error.errno == errno.EROFS:
            return False
        if error.errno not in (*_GONE, *_IN_USE):
            raise
    return True


def _look(st: os.stat_result) -> str:
    """What tells a file from another that a user puts in its place, and is the same in all user namespaces."""
    return f"{st.st_mode:o} {st.st_size} {'own' if st.st_uid == os.geteuid() else 'other'}"


def _made_socket(path: str) -> bool:
    """Make a socket; False on a file system that knows none, as vfat."""
    try:
        os.mknod(path, stat.S_IFSOCK)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        return False
    return True


def _make_file(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE_MODE)
    try:
        files.write_all(descriptor, content)
    finally:
        os.close(descriptor)
