"""Names that are taken on the host while a sandbox runs, so that nothing can be made there from inside.

A mount needs something to be mounted on. Where nothing is, that is a socket with no permissions, a symbolic link that
leads nowhere, or a file that says nothing (`unasked` says which); it goes at the end. What is made is noted before:

    /var/tmp/sb-UID/placeholders/ID    locked while the sandbox lives; what it has made or uses, KIND PATH NUL each,
                                       then = LOOK NUL once it is made, or - NUL if it wasn't
    /var/tmp/sb-UID/placeholders.lock  held while one is made or removed

Only what is noted is sb's, whatever else looks like it. A note that nobody holds is a killed sandbox's, or has what
couldn't be removed: the next sandbox that makes some, or removes leftovers, removes those.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rootless_sb import sandboxes, stand_ins
from rootless_sb.kernel import files
from rootless_sb.stand_ins import StandIn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rootless_sb.stand_ins import Spot

_PLACE = "placeholders"
_LOCK = "placeholders.lock"
_LOOK, _NOT_MADE = "=", "-"  # in a note, of what is before it; neither is a kind
# Who gets one of these may not write there, nor may anybody inside.
_SHUT = (errno.EACCES, errno.EPERM, errno.EROFS)


class Placeholders:
    """Those of one sandbox, whose notes are locked as long as this object's process lives."""

    __slots__ = ("_base", "_identifier", "_noted", "_own")

    def __init__(self, identifier: str, uid: int) -> None:
        """Raises OSError, SbError."""
        self._base = sandboxes.open_index(uid)
        self._identifier = identifier
        os.makedirs(f"/proc/self/fd/{self._base}/{_PLACE}", 0o700, exist_ok=True)
        sweep(self._base)
        with _alone(self._base), _notes_at(self._base) as place:
            own = files.lock(place, identifier, wait=True)
            # Of an earlier run of the same sandbox there may be some that couldn't be removed.
            self._noted = _noted_by(self._base, identifier)
        assert own is not None
        self._own = own
        os.ftruncate(own, 0)
        files.write_all(own, _as_note(self._noted))

    def take(self, path: str, kind: str, content: bytes = b"") -> bool:
        """See that the name at an absolute path is taken while we live, by something of this kind where nothing is;
        whether it is. A directory stays if something is in it by then. Raises OSError: also if a directory on the way
        is a link by now, but not where the one that it is to be in can't be written to.
        """
        try:
            with _alone(self._base), stand_ins.spot(path) as at:
                return self._take(StandIn(kind, path), at, content)
        except OSError as error:
            if error.errno not in _SHUT:
                raise
            return False

    def clear(self) -> None:
        """Remove what nobody else uses, and what killed sandboxes have left: who may act for the subordinate ids can
        remove more of that than others. Raises OSError.
        """
        with _alone(self._base):
            _remove(self._base, self._identifier, self._noted)
        with suppress(OSError):  # it wasn't this sandbox's, and the next one tries again
            sweep(self._base)
        os.close(self._own)
        os.close(self._base)

    def _take(self, wanted: StandIn, at: Spot, content: bytes) -> bool:
        if stand_ins.is_taken(at):
            self._share(wanted, at)
            return True
        self._note(wanted)
        try:
            look = stand_ins.make(wanted.kind, at, content)
        except OSError as error:
            if error.errno not in (errno.EEXIST, *_SHUT):
                raise
            self._withdraw()
            return error.errno == errno.EEXIST  # somebody has made it since we looked, and it is theirs
        self._note_look(look)
        return True

    def _share(self, wanted: StandIn, at: Spot) -> None:
        """If what has a name is another sandbox's, it stays for us too."""
        if not _is_noted(wanted.path, self._noted) and stand_ins.may_be(wanted.kind, at):
            with _notes_at(self._base) as place:
                others = _others(self._base, place, self._identifier, living=False)
            for each in others:
                if each.path == wanted.path and stand_ins.is_there(each, at):
                    self._note(each)
                    return

    def _note(self, each: StandIn) -> None:
        files.write_all(self._own, _as_note([each]))
        self._noted.append(each)

    def _note_look(self, look: str) -> None:
        self._noted[-1] = self._noted[-1]._replace(look=look)
        files.write_all(self._own, os.fsencode(f"{_LOOK}{look}\0"))

    def _withdraw(self) -> None:
        self._noted.pop()
        files.write_all(self._own, os.fsencode(f"{_NOT_MADE}\0"))


def sweep(base: int) -> list[str]:
    """Remove those of sandboxes that were killed; the paths of what couldn't be removed. `base`: a descriptor of the
    directory that has the notes, if anybody has made some. Raises OSError.
    """
    try:
        names = os.listdir(f"/proc/self/fd/{base}/{_PLACE}")
    except FileNotFoundError:
        return []
    left: list[StandIn] = []
    for name in names:
        with _alone(base):
            if not files.is_locked(base, f"{_PLACE}/{name}"):
                left += _remove(base, name, _noted_by(base, name))
    return [each.path for each in left]


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


def _as_note(some: Iterable[StandIn]) -> bytes:
    looks = ((each, f"{_LOOK}{each.look}\0" if each.look else "") for each in some)
    return os.fsencode("".join(f"{each.kind}{each.path}\0{look}" for each, look in looks))


def _noted_by(base: int, name: str) -> list[StandIn]:
    try:
        text = os.fsdecode(files.read(base, f"{_PLACE}/{name}"))
    except FileNotFoundError:
        return []
    found: list[StandIn] = []
    for line in text.split("\0")[:-1]:  # the last one isn't whole if its writer was killed
        kind, rest = line[0], line[1:]
        if kind == _LOOK:
            found[-1] = found[-1]._replace(look=rest)
        elif kind == _NOT_MADE:
            found.pop()
        else:
            found.append(StandIn(kind, rest))
    return found


def _others(base: int, place: int, identifier: str, *, living: bool) -> list[StandIn]:
    """What other sandboxes have noted; `living`: without those of killed ones."""
    names = [name for name in os.listdir(place) if name != identifier]
    return [each for name in names if not living or files.is_locked(place, name) for each in _noted_by(base, name)]


def _is_noted(path: str, noted: Iterable[StandIn]) -> bool:
    return any(each.path == path for each in noted)


def _remove(base: int, identifier: str, noted: list[StandIn]) -> list[StandIn]:
    """Remove a sandbox's placeholders, but for those that another one uses, and from its notes all but those that are
    there because this process can't remove them, or not see whether they are: they are returned. Raises OSError.
    """
    with _notes_at(base) as place:
        used = {each.path for each in _others(base, place, identifier, living=True)}
        left: list[StandIn] = []
        for each in reversed(noted):  # what lies in a directory goes before it
            if each.path not in used and (not stand_ins.remove(each) or _is_above(each, left)):
                left.insert(0, each)
        if not left:
            with suppress(FileNotFoundError):
                os.unlink(identifier, dir_fd=place)
        elif left != noted:
            files.write_atomically(place, identifier, _as_note(left), durable=False)
    return left


def _is_above(each: StandIn, others: Iterable[StandIn]) -> bool:
    return any(other.path.startswith(f"{each.path}/") for other in others)
