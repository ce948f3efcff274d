"""Whether something is still what was looked at, or made: two numbers, the same as long as nobody has written to it.

Those of a directory stand for all that is in it. Its own times don't count, nor any st_ctime: that of a file changes
when it is renamed, and when another of its names is taken away, both of which an apply does itself. So who writes to a
file, and gives it its size and its st_mtime again, isn't seen.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay.descent import open_directory
from fuse_overlay.tuples import NamedTuple
from rootless_sb.review.actions import stamp_of
from rootless_sb.review.merged import is_gone

if TYPE_CHECKING:
    from rootless_sb.review.actions import Key, Stamp

_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SUMS = 1 << 64


class Tally:
    """The stamp of a directory, from what is in it, in any order. `facts`: see `fact`, one for each file in it."""

    def __init__(self) -> None:
        self.facts: set[int] = set()
        self._count = 0
        self._sum = 0

    def add(self, path: bytes, st: os.stat_result) -> None:
        """Count in a file, by its path from the directory."""
        known = fact(path, st)
        self.facts.add(known)
        self._count += 1
        self._sum += known

    @property
    def stamp(self) -> Stamp:
        """How many files there are, and a sum that stands for them."""
        return self._count, self._sum % _SUMS


class Survey(NamedTuple):
    """What is in a directory. `directories`: by their paths from it, itself among them (empty), none before the one
    that it lies in.
    """

    tally: Tally
    directories: dict[bytes, Key]


def fact(path: bytes, st: os.stat_result) -> int:
    """A number that stands for a file as it is, at a path."""
    from hashlib import blake2b

    size = 0 if stat.S_ISDIR(st.st_mode) else st.st_size
    text = b"%d %d %d %d %d %s" % (st.st_dev, st.st_ino, st.st_mode, size, st.st_mtime_ns, path)
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def is_still(directory: int, name: bytes, key: Key | None, stamp: Stamp | None) -> bool:
    """Whether a name has the file that it had, and nobody has written to it, or into it, since; without a stamp only
    the former. Raises OSError for a directory that can't be read.
    """
    try:
        st = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if (st.st_dev, st.st_ino) != key:
            return False
        return stamp is None or stamp == look(directory, name, st)
    except OSError as error:
        if not is_gone(error):
            raise
        return False  # somebody is at work in it


def look(directory: int, name: bytes, st: os.stat_result) -> Stamp:
    """The stamp of what has a name in a directory, and these attributes. Raises OSError."""
    return survey(directory, name).tally.stamp if stat.S_ISDIR(st.st_mode) else stamp_of(st)


def survey(directory: int, name: bytes) -> Survey:
    """Look through all that is in a directory. Raises OSError."""
    top = os.open(name, _LIST, dir_fd=directory)
    try:
        st = os.fstat(top)
        found = Survey(Tally(), {b"": (st.st_dev, st.st_ino)})
        waiting = [b""]
        while waiting:
            waiting += _count(found, top, waiting.pop())
    finally:
        os.close(top)
    return found


def open_listed(top: int, path: bytes) -> int:
    """Open, to be listed, the directory at a path below `top`. Raises OSError."""
    held = open_directory(top, path.split(b"/") if path else [])
    try:
        return os.open(b".", _LIST, dir_fd=held)
    finally:
        os.close(held)


def _count(found: Survey, top: int, path: bytes) -> list[bytes]:
    """Count in what is in one directory, by its path from `top`. Returns those of the directories in it."""
    listed = open_listed(top, path)
    below = []
    try:
        with os.scandir(listed) as entries:
            for entry in entries:
                st = entry.stat(follow_symlinks=False)
                here = os.path.join(path, os.fsencode(entry.name))
                found.tally.add(here, st)
                if stat.S_ISDIR(st.st_mode):
                    found.directories[here] = st.st_dev, st.st_ino
                    below.append(here)
    finally:
        os.close(listed)
    return below
