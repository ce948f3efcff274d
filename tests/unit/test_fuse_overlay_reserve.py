"""What stays free of the upper's file system."""

from __future__ import annotations

import os

from fuse_overlay.kernel.shortcut import Shortcut
from fuse_overlay.reserve import Reserve, left_inodes


class FileSystem:
    """One of 1000 blocks of 10 bytes and 100 inodes, of which so many are free."""

    def __init__(self, blocks: int, inodes: int) -> None:
        self.blocks, self.inodes, self.looks = blocks, inodes, 0

    def look(self) -> os.statvfs_result:
        """What statvfs(3) says of it."""
        self.looks += 1
        return os.statvfs_result((10, 10, 1000, self.blocks, self.blocks, 100, self.inodes, self.inodes, 0, 255))


def test_bytes_stay_free() -> None:
    """What would leave less than the part is refused; what others free can be had again."""
    there = FileSystem(60, 100)
    reserve = Reserve(5, 0, there.look, Shortcut(None))
    assert [False, True] == [reserve.has_room(101, 0), reserve.has_room(100, 0)]
    there.blocks = 50
    assert not reserve.has_room(1, 0)
    there.blocks = 51
    assert reserve.has_room(10, 0)


def test_it_looks_seldom() -> None:
    """A fourth of what is left may be used without another look; what the helper writes comes off it."""
    there = FileSystem(850, 100)
    shortcut = Shortcut(None)
    reserve = Reserve(5, 0, there.look, shortcut)
    assert all(reserve.has_room(10, 0) for _ in range(200))
    assert 2 == there.looks
    shortcut.room = 0
    assert reserve.has_room(10, 0)
    assert 3 == there.looks


def test_inodes_stay_free() -> None:
    """The same for them; some file systems make as many as are needed."""
    there = FileSystem(1000, 6)
    reserve = Reserve(0, 5, there.look, Shortcut(None))
    assert [True, True] == [reserve.has_room(0, 1), reserve.has_room(1 << 40, 0)]
    there.inodes = 5
    assert not reserve.has_room(0, 1)
    assert left_inodes(5, os.statvfs_result((1, 1, 1, 1, 1, 0, 0, 0, 0, 255))) > 1 << 40


def test_what_is_kept_is_not_available() -> None:
    """statvfs(3) tells clients of what they may have."""
    there = FileSystem(60, 30)
    said = Reserve(5, 10, there.look, Shortcut(None)).within(there.look())
    assert (60, 10, 100, 20, 20) == said[3:8]
