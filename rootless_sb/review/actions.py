"""What is done to the host to bring changes to it, as data. Pure.

Whatever is new is first made in a file or directory beside its target, under a name of its own, and then:

    PUT     renamed to a name that is free              SWAP    exchanged with what is there
    TAKE    what is to go is renamed away               TOUCH   attributes are changed in place

After each of the first three, what was there is found under that other name, so each can be undone; TOUCH keeps what
the attributes were. The names are removed when all is done. What lies in a new directory is made in it before that is
put into place, and is no action of its own.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.review.changes import ADDED, DATA, DELETED, TYPE, is_new_directory

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from rootless_sb.review.changes import Change

PUT, SWAP, TAKE, TOUCH = "put", "swap", "take", "touch"

_PREFIX = b".sb-apply-"

Key = tuple[int, int]  # st_dev, st_ino
Stamp = tuple[int, int]  # see `stamps`


class Attributes(NamedTuple):
    """A file's type and mode (st_mode), owner and group, and some extended attributes, None for one that it hasn't."""

    mode: int
    uid: int
    gid: int
    xattrs: tuple[tuple[bytes, bytes | None], ...]

    @property
    def is_directory(self) -> bool:
        """Whether they are a directory's."""
        return stat.S_ISDIR(self.mode)


class Action(NamedTuple):
    """One of the four, on `name` in the directory with the number `site`; `staged` is the other name beside it.

    `old`: what is there, if anything, and `stamp` what it was when it was looked at, None for a directory that stays;
    `new`: what is staged, once it is, and `made` its stamp then, None if that isn't known. `before` and `after`: of
    TOUCH. `clashes`: the host has changed it since the sandbox saw it, and is to lose that.
    """

    kind: str
    site: int
    name: bytes
    staged: bytes
    old: Key | None
    stamp: Stamp | None = None
    new: Key | None = None
    before: Attributes | None = None
    after: Attributes | None = None
    clashes: bool = False
    made: Stamp | None = None


class Site(NamedTuple):
    """A directory of the host in which there is something to do, by its absolute path in the sandbox.

    `mode`: its mode bits, to be given back if they had to be widened, as `widened` says; or those that it is to have.
    """

    path: bytes
    key: Key
    mode: int
    widened: bool


class Spot(NamedTuple):
    """Where something is staged: in the directory with the number `site`, by way of these names."""

    site: int
    names: tuple[bytes, ...]


class Decided(NamedTuple):
    """`sites`: paths of the directories. `spots`: for each change that needs something made, in an order in which it
    can be, where that is."""

    sites: tuple[bytes, ...]
    actions: tuple[Action, ...]
    spots: tuple[tuple[Change, Spot], ...]


def decide(changes: Sequence[Change], token: str) -> Decided:
    """The actions that bring changes to the host, without the stamps of directories.

    `token` makes the staged names unlike any others.
    """
    sites: dict[bytes, int] = {}
    actions: list[Action] = []
    spots: list[tuple[Change, Spot]] = []
    new: dict[bytes, Spot] = {}
    for change in sorted(changes, key=lambda each: each.path.split(b"/")):
        above, _, name = change.path.rpartition(b"/")
        if above in new:
            spot = new[above]._replace(names=(*new[above].names, name))
        else:
            site = sites.setdefault(above, len(sites))
            staged = _PREFIX + token.encode() + b"-%x" % len(actions)
            spot = Spot(site, (staged,))
            actions.append(Action(_kind(change), site, name, staged, *_old(change)))
        if above in new or actions[-1].kind in (PUT, SWAP):
            spots.append((change, spot))
            if is_new_directory(change):
                new[change.path] = spot
    return Decided(tuple(sites), tuple(actions), tuple(spots))


def stamp_of(st: os.stat_result) -> Stamp:
    """The stamp of what isn't a directory."""
    return st.st_size, st.st_mtime_ns


def is_touch(change: Change) -> bool:
    """Whether attributes are all that changes, and no other name of the file sees it."""
    before = change.before
    if before is None or change.kind in (ADDED, DELETED) or {DATA, TYPE}.intersection(change.aspects):
        return False
    return before.kind == stat.S_IFDIR or before.st.st_nlink == 1


def _kind(change: Change) -> str:
    if change.kind == ADDED:
        return PUT
    if change.kind == DELETED:
        return TAKE
    return TOUCH if is_touch(change) else SWAP


def _old(change: Change) -> tuple[Key | None, Stamp | None]:
    if change.before is None:
        return None, None
    st = change.before.st
    key = st.st_dev, st.st_ino
    return key, None if change.before.kind == stat.S_IFDIR else stamp_of(st)
