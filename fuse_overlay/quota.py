"""How much of its limits the upper uses, and what is refused for that. Pure.

Counted are the blocks of files, as st_blocks has them, and one block for each directory; and the inodes of both.
Whiteouts, marks and indexes aren't: of these there can't be more than there are files below.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay.errors import failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuse_overlay.inodes import Node
    from fuse_overlay.reserve import Reserve

_BLOCK = 512  # bytes of a unit of st_blocks, inode(7)

# What a directory counts, however large it is: some file systems let it shrink again and others don't.
DIRECTORY = 4096


class Quota:
    """The upper's use and its limits, in bytes and inodes; None: no limit. `active`: there is a limit.

    `reserve`: what stays free of its file system besides. `refused`: whom to tell when something is refused, once.

    Of files that are open for writing, or open and without a name, is remembered what they count for, until the last
    descriptor of them is closed.
    """

    __slots__ = ("_held", "_latest", "active", "bytes", "bytes_max", "inodes", "inodes_max", "refused", "reserve")

    def __init__(self, bytes_max: int | None, inodes_max: int | None, reserve: Reserve | None = None) -> None:
        self.reserve = reserve
        self.refused: Callable[[], None] | None = None
        self.bytes_max = bytes_max
        self.inodes_max = inodes_max
        self.active = bytes_max is not None or inodes_max is not None
        self.bytes = 0
        self.inodes = 0
        self._held: dict[Node, int] = {}
        # The file that was made or expected last, and what it counts for: more of the same request may follow.
        self._latest: tuple[Node, int] | None = None

    def has_room(self, size: int) -> bool:
        """Whether this many bytes more are within the limit."""
        return self.bytes_max is None or self.bytes + size <= self.bytes_max

    def lacking(self, size: int, inodes: int = 0) -> int:
        """The errno for so many bytes and inodes more, if there may not be as many: EDQUOT or ENOSPC; else 0."""
        if not self.has_room(size) or (inodes and self.inodes_max is not None and self.inodes >= self.inodes_max):
            return errno.EDQUOT
        return errno.ENOSPC if self.reserve is not None and not self.reserve.has_room(size, inodes) else 0

    def refuse(self, number: int) -> OSError:
        """The error to raise for what there is no room for."""
        if self.refused is not None:
            self.refused()
            self.refused = None
        return failure(number)

    def require(self, size: int, inodes: int = 0) -> None:
        """Refuse what would take more bytes or inodes than there may be. Raises OSError: EDQUOT, ENOSPC."""
        if number := self.lacking(size, inodes):
            raise self.refuse(number)

    def require_file(self) -> None:
        """Refuse a new file; also when the bytes are used up: data comes late, and its errors are often overlooked."""
        self.require(1, 1)

    def made(self, node: Node, st: os.stat_result) -> None:
        """A file or directory has come to the upper."""
        if not self.active:
            return
        self.bytes += weight(st)
        self.inodes += 1
        self._latest = (node, weight(st))

    def removed(self, node: Node, st: os.stat_result | None) -> None:
        """A file of the upper, that was `st` before, has lost a name, or a directory is gone. None: not the upper's."""
        if st is None or (st.st_nlink - (node.aside is not None) > 1 and not stat.S_ISDIR(st.st_mode)):
            return
        if node.handles:
            self._held.setdefault(node, weight(st))
        else:
            self._free(weight(st))

    def expect(self, node: Node, st: os.stat_result) -> None:
        """A file of the upper, whose blocks are counted, is about to be changed, and measured then."""
        self._latest = (node, weight(st))

    def hold(self, node: Node, st: os.stat_result) -> None:
        """A file of the upper, whose blocks are counted, is open."""
        self._held.setdefault(node, weight(st))

    def is_held(self, node: Node) -> bool:
        """Whether it is to be measured when it is closed."""
        return node in self._held

    def measured(self, node: Node, st: os.stat_result) -> None:
        """This is what a file takes now that is open or was expected, or made a moment ago."""
        now = weight(st)
        if node in self._held:
            self.bytes += now - self._held[node]
            self._held[node] = now
        elif self._latest is not None and self._latest[0] is node:
            self.bytes += now - self._latest[1]
            self._latest = (node, now)

    def closed(self, node: Node, st: os.stat_result) -> None:
        """The last descriptor of a file has been closed, which was `st` then: without a name, it is gone."""
        self.measured(node, st)
        left = self._held.pop(node)
        if st.st_nlink == 0:
            self._free(left)

    def _free(self, size: int) -> None:
        self.bytes -= size
        self.inodes -= 1


def weight(st: os.stat_result) -> int:
    """What a file or directory counts for, in bytes."""
    return DIRECTORY if stat.S_ISDIR(st.st_mode) else st.st_blocks * _BLOCK


def within(quota: Quota, given: os.statvfs_result) -> os.statvfs_result:
    """What statvfs(3) is to say, with what is left of the limits."""
    if quota.reserve is not None:
        given = quota.reserve.within(given)
    blocks, free, available, files, free_files = given[2:7]
    if quota.bytes_max is not None:
        unit = given.f_frsize or given.f_bsize
        left = max(0, quota.bytes_max - quota.bytes) // unit
        blocks, free, available = min(blocks, quota.bytes_max // unit), min(free, left), min(available, left)
    if quota.inodes_max is not None:
        # Some file systems make inodes as they are needed, and say 0 of 0.
        left = max(0, quota.inodes_max - quota.inodes)
        files, free_files = min(files or quota.inodes_max, quota.inodes_max), min(free_files or left, left)
    return os.statvfs_result((*given[:2], blocks, free, available, files, free_files, free_files, *given[8:]))
