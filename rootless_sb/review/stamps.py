"""Whether what is to go is still what was looked at: two numbers, the same as long as nobody has written to it.

Those of a directory stand for all that is in it. Its own times don't count, nor any st_ctime: that of a file changes
when another of its names is taken away, which may be part of the same apply.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay.layers import open_directory
from rootless_sb.review.actions import stamp_of

if TYPE_CHECKING:
    from rootless_sb.review.actions import Stamp

_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SUMS = 1 << 64


class Tally:
    """The stamp of a directory, from what is in it, in any order."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = 0

    def add(self, path: bytes, st: os.stat_result) -> None:
        """Count in a file, by its path from the directory."""
        from hashlib import blake2b

        size = 0 if stat.S_ISDIR(st.st_mode) else st.st_size
        fact = b"%d %d %d %d %d %s" % (st.st_dev, st.st_ino, st.st_mode, size, st.st_mtime_ns, path)
        self._count += 1
        self._sum += int.from_bytes(blake2b(fact, digest_size=8).digest(), "big")

    @property
    def stamp(self) -> Stamp:
        """How many files there are, and a sum that stands for them."""
        return self._count, self._sum % _SUMS


def look(directory: int, name: bytes, st: os.stat_result) -> Stamp:
    """The stamp of what has a name in a directory, and these attributes. Raises OSError."""
    if not stat.S_ISDIR(st.st_mode):
        return stamp_of(st)
    tally = Tally()
    top = os.open(name, _LIST, dir_fd=directory)
    try:
        waiting: list[list[bytes]] = [[]]
        while waiting:
            names = waiting.pop()
            waiting += _count(tally, top, names)
    finally:
        os.close(top)
    return tally.stamp


def _count(tally: Tally, top: int, names: list[bytes]) -> list[list[bytes]]:
    """Count in what is in one directory, by its names from `top`. Returns those of the directories in it."""
    held = open_directory(top, names)
    try:
        listed = os.open(b".", _LIST, dir_fd=held)
    finally:
        os.close(held)
    below = []
    try:
        with os.scandir(listed) as entries:
            for entry in entries:
                st = entry.stat(follow_symlinks=False)
                here = [*names, os.fsencode(entry.name)]
                tally.add(b"/".join(here), st)
                if stat.S_ISDIR(st.st_mode):
                    below.append(here)
    finally:
        os.close(listed)
    return below
