"""What stays free of the upper's file system, whatever a client wants. Pure: it is told how to look.

A look costs little, but more than a write of a file that is open: after each one a part of what is left may be used
without another. Others use the file system too, so it is a part only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from fuse_overlay.kernel.shortcut import Shortcut

_PART = 4  # of what is left, a fourth may be used before the next look
_ANY = 1 << 62


class Reserve:
    """Keeps parts of a file system free, in percent: of its bytes and of its inodes; 0: nothing.

    What the compiled helper writes comes off the same room.
    """

    __slots__ = ("_bytes_kept", "_inodes", "_inodes_kept", "_look", "_shortcut")

    def __init__(
        self, bytes_kept: int, inodes_kept: int, look: Callable[[], os.statvfs_result], shortcut: Shortcut
    ) -> None:
        self._bytes_kept = bytes_kept
        self._inodes_kept = inodes_kept
        self._look = look
        self._shortcut = shortcut
        self._inodes = 0  # that may come before the next look
        shortcut.room = 0 if bytes_kept else _ANY
        if bytes_kept:
            found = look()
            shortcut.keep_free(found.f_blocks * bytes_kept // 100 * (found.f_frsize or found.f_bsize))

    def has_room(self, size: int, inodes: int) -> bool:
        """Whether so many bytes and inodes more leave enough; if so they are used."""
        wants_bytes = bool(self._bytes_kept) and size > self._shortcut.room
        wants_inodes = bool(self._inodes_kept) and inodes > self._inodes
        if wants_bytes or wants_inodes:
            found = self._look()
            if self._bytes_kept:
                self._shortcut.room = _room(left_bytes(self._bytes_kept, found), size)
            if self._inodes_kept:
                self._inodes = _room(left_inodes(self._inodes_kept, found), inodes)
        if (self._bytes_kept and size > self._shortcut.room) or (self._inodes_kept and inodes > self._inodes):
            return False
        if self._bytes_kept:
            self._shortcut.room -= size
        if self._inodes_kept:
            self._inodes -= inodes
        return True

    def within(self, given: os.statvfs_result) -> os.statvfs_result:
        """What statvfs(3) is to say: what is kept free isn't available."""
        available, free_files = given.f_bavail, given.f_ffree
        if self._bytes_kept:
            available = min(available, max(left_bytes(self._bytes_kept, given), 0) // (given.f_frsize or given.f_bsize))
        if self._inodes_kept and given.f_files:
            free_files = min(free_files, max(left_inodes(self._inodes_kept, given), 0))
        return type(given)((*given[:4], available, given.f_files, free_files, free_files, *given[8:]))


def _room(left: int, wanted: int) -> int:
    """What may be used before the next look; in any case what is wanted now, if that is there."""
    return max(wanted if wanted <= left else 0, left // _PART)


def left_bytes(kept: int, found: os.statvfs_result) -> int:
    """The bytes that may come yet if `kept` percent stay free; less than 0 where less is."""
    return (found.f_bavail - found.f_blocks * kept // 100) * (found.f_frsize or found.f_bsize)


def left_inodes(kept: int, found: os.statvfs_result) -> int:
    """The inodes that may come yet; many where the file system makes them as they are needed, and says 0 of 0."""
    return found.f_favail - found.f_files * kept // 100 if found.f_files else _ANY
