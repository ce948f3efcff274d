"""What a copy in the upper remembers of its original: the attribute `xattrs.ORIGIN`. Pure.

The inode number by which the file was known before its copy-up stays the same with it. The rest says what the original
was when it was copied, so that whoever compares the layer with the lower ones later knows whether it has changed since.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    import os

# An inode number has at most so many decimal digits (2**64).
_DIGITS = 20


class Origin(NamedTuple):
    """`number`: the inode number that is shown. `path`: the `path_sum` of where the original was.

    `ino`, `mode`, `size`, `mtime` and `ctime` are the original's own (stat(2)), times in nanoseconds.
    """

    number: int
    path: int = 0
    ino: int = 0
    mode: int = 0
    size: int = 0
    mtime: int = 0
    ctime: int = 0

    def is_of(self, st: os.stat_result) -> bool:
        """Whether a file is the original, unchanged."""
        return self[2:] == (st.st_ino, st.st_mode, st.st_size, st.st_mtime_ns, st.st_ctime_ns)


def of(number: int, path: bytes, st: os.stat_result) -> Origin:
    """What to remember of a file that is shown with this inode number, at this path from the tree's root."""
    return Origin(number, path_sum(path), st.st_ino, st.st_mode, st.st_size, st.st_mtime_ns, st.st_ctime_ns)


def path_sum(path: bytes) -> int:
    """What stands for a path: enough to tell that a copy has been renamed since."""
    return zlib.crc32(path)


def encode(origin: Origin) -> bytes:
    """The attribute's value."""
    return b":".join([b"%d" % origin.number, *(b"%x" % number for number in origin[1:])])


def parse(value: bytes) -> Origin | None:
    """What a value says; None when it is malformed. The number alone is what older layers have."""
    first, *others = value.split(b":")
    if not first.isdigit() or len(first) > _DIGITS or len(others) not in (0, len(Origin._fields) - 1):
        return None
    try:
        return Origin(int(first), *(int(number, 16) for number in others))
    except ValueError:
        return None
