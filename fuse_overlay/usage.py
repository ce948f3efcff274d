"""How much an upper holds at the start: as its last server has noted at the end, or as a walk counts it.

The note is a file in the work directory. Whoever mounts takes it away, so a server that was killed leaves none, and the
next one counts.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay import quota, whiteout
from fuse_overlay.descent import Descent
from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOTE = b"#fuse-overlay.usage"
_NEW = b"#fuse-overlay-usage"  # Work removes what is left behind under such names
_FORMAT = b"fuse-overlay usage 1: %d bytes, %d inodes\n"
_LONGEST = 128


class Usage(NamedTuple):
    """The bytes and inodes of an upper, as a quota counts them."""

    bytes: int
    inodes: int


def take(work: int) -> Usage | None:
    """The note in an open work directory, which is removed; None if there isn't one, or it isn't whole.

    Raises OSError.
    """
    try:
        fd = os.open(_NOTE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=work)
    except FileNotFoundError:
        return None
    with open(fd, "rb", buffering=0) as file:
        data = file.read(_LONGEST)
    os.unlink(_NOTE, dir_fd=work)
    numbers = [int(word) for word in data.split() if word.isdigit()]
    return Usage(*numbers) if len(numbers) == 2 and data == _FORMAT % tuple(numbers) else None


def leave(work: int, used: Usage) -> None:
    """Write the note. Raises OSError."""
    with open(os.open(_NEW, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=work), "wb") as file:
        file.write(_FORMAT % used)
    os.rename(_NEW, _NOTE, src_dir_fd=work, dst_dir_fd=work)


def count(upper: int, work: int) -> Usage:
    """Count what is in an upper, and the copies in its work directory that are to get names. Raises OSError."""
    total = inodes = 0
    linked: set[int] = set()
    for st in (*_entries(work), *_entries(upper)):
        if st.st_nlink > 1 and not stat.S_ISDIR(st.st_mode):
            if st.st_ino in linked:
                continue
            linked.add(st.st_ino)
        total += quota.weight(st)
        inodes += 1
    return Usage(total, inodes)


def _entries(top: int) -> Iterator[os.stat_result]:
    """All that is below a directory but whiteouts and marks; os.fwalk recurses, and what is deep would stop it."""
    with Descent(top, b".") as way:
        left = [os.listdir(way.fd)]
        while True:
            if not left[-1]:
                left.pop()
                if not left:
                    return
                way.leave()
                continue
            name = os.fsencode(left[-1].pop())
            st = os.stat(name, dir_fd=way.fd, follow_symlinks=False)
            if not (whiteout.is_whiteout(st) or whiteout.is_mark(name)):
                yield st
            if stat.S_ISDIR(st.st_mode):
                try:
                    way.enter(name)
                except PermissionError:
                    continue  # not of our making, and nothing that we can count
                left.append(os.listdir(way.fd))
