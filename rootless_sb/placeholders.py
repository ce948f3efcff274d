"""Names that are taken on the host while a sandbox runs, so that nothing can be made there from inside.

A mount needs something to be mounted on. Where nothing is, that is a socket with no permissions, a symbolic link that
leads nowhere, or a file that says nothing (`unasked` says which); it goes at the end. What is made is noted before:

    /var/tmp/sb-UID/placeholders/ID    locked while the sandbox lives; what it has made or uses, KIND PATH NUL each
    /var/tmp/sb-UID/placeholders.lock  held while one is made or removed

A note that nobody holds is a killed sandbox's: the next one that makes some, or removes leftovers, removes those.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rootless_sb import sandboxes
from rootless_sb.kernel import files
from rootless_sb.unasked import DIRECTORY, FILE, LINK, SOCKET

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLACE = "placeholders"
_LOCK = "placeholders.lock"
_NOWHERE = "/proc/held-by-sb"  # and nobody can make it
_FILE_MODE = 0o444
_FILE_MOST = 2  # bytes: what `unasked` has
# Who gets one of these may not write there, nor may anybody inside.
_SHUT = (errno.EACCES, errno.EPERM, errno.EROFS)


class Placeholders:
    """Those of one sandbox, whose notes are locked as long as this object's process lives."""

    __slots__ = ("_base", "_identifier", "_noted", "_own")

    def __init__(self, identifier: str, uid: int) -> None:
        """Raises OSError, SbError."""
        self._base = sandboxes.open_index(uid)
        self._identifier = identifier
        self._noted: list[str] = []
        os.makedirs(f"/proc/self/fd/{self._base}/{_PLACE}", 0o700, exist_ok=True)
        sweep(self._base)
        with _alone(self._base), _notes_at(self._base) as place:
            own = files.lock(place, identifier, wait=True)
        assert own is not None
        self._own = own

    def take(self, path: str, kind: str, content: bytes = b"") -> bool:
        """See that the name at an absolute path is taken while we live, by something of this kind where nothing is;
        whether it is. A directory stays if something is in it by then. Raises OSError, but not where the directory
        that it is to be in can't be written to.
        """
        with _alone(self._base):
            if os.path.lexists(path):
                if _is_one(kind, path) and (kind != DIRECTORY or kind + path in self._others()):
                    self._note(kind, path)  # another sandbox's, which stays for us too
                return True
            self._note(kind, path)
            return _made(path, kind, content)

    def clear(self) -> None:
        """Remove what nobody else uses. Raises OSError."""
        with _alone(self._base):
            _remove(self._base, self._identifier, self._noted)
        os.close(self._own)
        os.close(self._base)

    def _others(self) -> set[str]:
        with _notes_at(self._base) as place:
            return _used(self._base, place, self._identifier)

    def _note(self, kind: str, path: str) -> None:
        files.write_all(self._own, os.fsencode(f"{kind}{path}\0"))
        self._noted.append(kind + path)


def sweep(base: int) -> None:
    """Remove those of sandboxes that were killed. `base`: a descriptor of the directory that has the notes, if anybody
    has made some. Raises OSError.
    """
    try:
        names = os.listdir(f"/proc/self/fd/{base}/{_PLACE}")
    except FileNotFoundError:
        return
    for name in names:
        with _alone(base):
            if not files.is_locked(base, f"{_PLACE}/{name}"):
                _remove(base, name, _noted_by(base, name))


@contextmanager
def _alone(base: int) -> Iterator[None]:
    """Nobody else makes or removes any meanwhile."""
    lock = files.lock(base, _LOCK, wait=True)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


@contextmanager
def _notes_at(base: int) -> Iterator[int]:
    place = os.open(_PLACE, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=base)
    try:
        yield place
    finally:
        os.close(place)


def _noted_by(base: int, name: str) -> list[str]:
    try:
        return files.read(base, f"{_PLACE}/{name}").decode("utf-8", "surrogateescape").split("\0")[:-1]
    except FileNotFoundError:
        return []


def _used(base: int, place: int, identifier: str) -> set[str]:
    """What sandboxes that live have noted, but for this one."""
    others = [name for name in os.listdir(place) if name != identifier and files.is_locked(place, name)]
    return {each for name in others for each in _noted_by(base, name)}


def _remove(base: int, identifier: str, noted: list[str]) -> None:
    """Remove a sandbox's placeholders, but for those that another one uses, and its notes."""
    with _notes_at(base) as place:
        used = _used(base, place, identifier)
        for each in reversed(noted):  # what lies in a directory goes before it
            kind, path = each[0], each[1:]
            if each not in used and _is_one(kind, path):
                _remove_one(kind, path)
        try:
            os.unlink(identifier, dir_fd=place)
        except FileNotFoundError:
            pass


def _remove_one(kind: str, path: str) -> None:
    try:
        (os.rmdir if kind == DIRECTORY else os.unlink)(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, *_SHUT):
            raise


def _is_one(kind: str, path: str) -> bool:
    """Whether there is, still, at a path what `take` makes."""
    try:
        st = os.lstat(path)
    except OSError:
        return False
    if kind == DIRECTORY:
        return stat.S_ISDIR(st.st_mode)
    if st.st_uid != os.geteuid():
        return False
    if kind == LINK:
        return stat.S_ISLNK(st.st_mode) and os.readlink(path) == _NOWHERE
    if kind == SOCKET and stat.S_ISSOCK(st.st_mode):
        return stat.S_IMODE(st.st_mode) == 0
    return stat.S_ISREG(st.st_mode) and stat.S_IMODE(st.st_mode) == _FILE_MODE and st.st_size <= _FILE_MOST


def _made(path: str, kind: str, content: bytes) -> bool:
    """Make one; False where nobody inside can make anything either. Raises OSError."""
    try:
        if kind == DIRECTORY:
            os.mkdir(path, 0o755)
        elif kind == LINK:
            os.symlink(_NOWHERE, path)
        elif kind == FILE or not _made_socket(path):
            _make_file(path, content)
    except OSError as error:
        if error.errno not in _SHUT:
            raise
        return False
    return True


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
