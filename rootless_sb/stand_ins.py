"""What stands where nothing is: made, told from what others have made there, and removed.

Who else may write to a volume can put a symbolic link in a directory's place at any moment. So a stand-in is reached by
its directory's descriptor, which is opened through no link, and one name: it is in the directory that the path named.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fuse_overlay.descent import open_directory
from fuse_overlay.tuples import NamedTuple
from rootless_sb.kernel import files
from rootless_sb.unasked import DIRECTORY, FILE, LINK, SOCKET

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOWHERE = "/proc/held-by-sb"  # and nobody can make it
_FILE_MODE = 0o444
_FILE_MOST = 2  # bytes: what `unasked` has
_IN_USE = (errno.ENOTEMPTY, errno.EEXIST)  # rmdir(2) may say either
_LED_ASTRAY = (errno.ELOOP, errno.ENOTDIR)  # what a link on the way may be: openat2(2), open(2)


class StandIn(NamedTuple):
    """One by its kind (`unasked`) and absolute path. `look`: how it looked once it was made, "" if that isn't noted."""

    kind: str
    path: str
    look: str = ""


class Spot(NamedTuple):
    """A name in an open directory, which may have nothing of that name."""

    directory: int
    name: str


@contextmanager
def spot(path: str) -> Iterator[Spot]:
    """Where an absolute path leads, its directory held open meanwhile. Raises OSError: also if a link is on the way."""
    *above, name = path.strip("/").split("/")
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        directory = open_directory(root, [os.fsencode(each) for each in above])
    finally:
        os.close(root)
    try:
        yield Spot(directory, name)
    finally:
        os.close(directory)


def is_taken(at: Spot) -> bool:
    """Whether anything has the name, as far as can be seen."""
    try:
        _lstat(at)
    except OSError:
        return False
    return True


def make(kind: str, at: Spot, content: bytes) -> str:
    """Make one; how it looks. A file system may fix owners and modes (vfat, CIFS), and a directory have an ACL for what
    is made in it, so that isn't known before. Raises OSError.
    """
    if kind == DIRECTORY:
        os.mkdir(at.name, 0o755, dir_fd=at.directory)
    elif kind == LINK:
        os.symlink(_NOWHERE, at.name, dir_fd=at.directory)
    elif kind == FILE or not _made_socket(at):
        _make_file(at, content)
    return _look(_lstat(at))


def may_be(kind: str, at: Spot) -> bool:
    """Whether what has a name may be a stand-in, whoever has made it. Raises OSError."""
    st = _lstat(at)
    if stat.S_ISDIR(st.st_mode):
        return kind == DIRECTORY
    if stat.S_ISLNK(st.st_mode):
        return os.readlink(at.name, dir_fd=at.directory) == _NOWHERE
    return stat.S_ISSOCK(st.st_mode) or (stat.S_ISREG(st.st_mode) and st.st_size <= _FILE_MOST)


def is_there(each: StandIn, at: Spot) -> bool:
    """Whether it is, still, at its path, which leads to that name. Raises OSError."""
    if not may_be(each.kind, at):
        return False
    st = _lstat(at)
    if each.kind == DIRECTORY:  # whose mode and size others may have changed
        return stat.S_ISDIR(st.st_mode) and (not each.look or _number(each.look) == _number(_look(st)))
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
    """Remove it, if it is there and nothing is in it; False if who calls may not, or can't see that, or while a link is
    in the place of a directory above it. Raises OSError.
    """
    try:
        with spot(each.path) as at:
            if is_there(each, at):
                (os.rmdir if each.kind == DIRECTORY else os.unlink)(at.name, dir_fd=at.directory)
    except PermissionError:
        return False
    except OSError as error:
        if error.errno == errno.EROFS:
            return False
        if error.errno in _LED_ASTRAY:
            above = os.path.dirname(each.path)
            return os.path.realpath(above) == above  # else it is a file that is in the directory's place
        if error.errno not in (errno.ENOENT, *_IN_USE):
            raise
    return True


def _lstat(at: Spot) -> os.stat_result:
    return os.stat(at.name, dir_fd=at.directory, follow_symlinks=False)


def _look(st: os.stat_result) -> str:
    """What tells a file from another that comes into its place, and is the same in all user namespaces.

    A file system that numbers its files anew each time it comes upon them (vfat, sshfs) may have forgotten this one's
    number when a killed sandbox's are removed much later: then it stays, like somebody's own.
    """
    return f"{st.st_mode:o} {st.st_size} {'own' if st.st_uid == os.geteuid() else 'other'} {st.st_ino}"


def _number(look: str) -> str:
    return look.rpartition(" ")[2]


def _made_socket(at: Spot) -> bool:
    """Make a socket; False on a file system that knows none, as vfat."""
    try:
        os.mknod(at.name, stat.S_IFSOCK, dir_fd=at.directory)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        return False
    return True


def _make_file(at: Spot, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(at.name, flags, _FILE_MODE, dir_fd=at.directory)
    try:
        files.write_all(descriptor, content)
    finally:
        os.close(descriptor)
