"""What a layer changed, as data. Pure."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fuse_overlay.ownership import Owner

ADDED = "A"
CHANGED = "C"
DELETED = "D"

# In what a file can have changed.
TYPE, DATA, MODE, OWNER, XATTRS = "type", "data", "mode", "owner", "xattrs"

_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


class Item(NamedTuple):
    """A file as the sandbox sees it: its type (S_IFMT bits), ids and mode inside, a device's number, a link's target.

    `st` is the real file's.
    """

    kind: int
    owner: Owner
    rdev: int
    target: bytes
    st: os.stat_result

    @property
    def type(self) -> str:
        """The type in a word."""
        return _TYPES[self.kind]

    @property
    def size(self) -> int:
        """Bytes of data; of a link those of its target."""
        return self.st.st_size if self.kind in (stat.S_IFREG, stat.S_IFLNK) else 0


class Change(NamedTuple):
    """A path, absolute in the sandbox, and what was there before and is there now.

    `kind` is ADDED, CHANGED or DELETED; `aspects` says in what a file has changed. A directory that is deleted stands
    for all that is in it; what is in a new one is listed too.
    """

    kind: str
    path: bytes
    before: Item | None
    after: Item | None
    aspects: tuple[str, ...] = ()

    @property
    def item(self) -> Item:
        """What is there now, of what is deleted what was there."""
        item = self.after or self.before
        assert item is not None
        return item


def aspects(before: Item, after: Item, *, same_data: bool, same_xattrs: bool) -> tuple[str, ...]:
    """In what two files differ. Times don't count: writing the same again is no change."""
    if before.kind != after.kind:
        return (TYPE,)
    found = []
    if not same_data or (before.rdev, before.target) != (after.rdev, after.target):
        found.append(DATA)
    if before.kind != stat.S_IFLNK and before.owner.mode != after.owner.mode:
        found.append(MODE)
    if before.owner[:2] != after.owner[:2]:
        found.append(OWNER)
    if not same_xattrs:
        found.append(XATTRS)
    return tuple(found)


def beneath(path: bytes, above: bytes) -> bool:
    """Whether a path is this one or leads through it."""
    return path == above or path.startswith(above.rstrip(b"/") + b"/")


def chosen(changes: Sequence[Change], paths: Iterable[bytes]) -> list[Change]:
    """The changes at and beneath these paths, with the new directories above that they need."""
    wanted = tuple(paths)
    needed = {each.path for each in changes if any(beneath(each.path, path) for path in wanted)}
    above = {directory for path in needed for directory in directories_above(path)}
    return [each for each in changes if each.path in needed or (each.path in above and is_new_directory(each))]


def without(changes: Iterable[Change], left_out: Iterable[Change]) -> list[Change]:
    """The changes but for some, and for what would lie in new directories among these."""
    out = list(left_out)
    paths = {each.path for each in out}
    unmade = {each.path for each in out if is_new_directory(each)}
    return [
        each
        for each in changes
        if each.path not in paths and not any(above in unmade for above in directories_above(each.path))
    ]


def directories_above(path: bytes) -> Iterator[bytes]:
    """The absolute paths of the directories that a path leads through, the nearest first, without the root."""
    while path := path.rpartition(b"/")[0]:
        yield path


def is_new_directory(change: Change) -> bool:
    """Whether a directory is made where there was none."""
    return change.item.kind == stat.S_IFDIR and (change.kind == ADDED or TYPE in change.aspects)


def total(changes: Iterable[Change]) -> Mapping[str, int]:
    """How many of each kind there are."""
    counts = dict.fromkeys((ADDED, CHANGED, DELETED), 0)
    for each in changes:
        counts[each.kind] += 1
    return counts
