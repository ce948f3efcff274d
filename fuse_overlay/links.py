"""Lower files with several names that were copied up: which copy the names stand for that were not looked at by then.

A copy-up gives the copy those names of its original that are known. Nothing tells where the others are, so the copy
gets one more name, in the work directory, that says which file it is the copy of. Whoever finds the original under
another name later, makes that name one of the copy's.

    name = "#fuse-overlay=" UPPER ":" NUMBER ":" TIME ":" PENDING

UPPER is the inode number of the upper's root: in a work directory that served another upper, the links mean nothing.
NUMBER is the original's inode number as the overlay shows it, TIME its st_mtime in ns: a number that the host gave to
another file meanwhile isn't taken for it. PENDING: how many names of the original the copy doesn't have yet. All in
hexadecimal.

A file with several names that has no copy, and loses a name, has its link count kept right by an empty file there:

    name = ".wh.#fuse-overlay=" UPPER ":" NUMBER ":" TIME ":" LOST

LOST: how many names it has lost.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from fuse_overlay import whiteout
from fuse_overlay.attributes import File

if TYPE_CHECKING:
    from fuse_overlay.attributes import Store
    from fuse_overlay.inodes import Key, Numbers
    from fuse_overlay.layers import Layer
    from fuse_overlay.work import Work

PREFIX = b"#fuse-overlay="
# A mark's beginning: what has one isn't counted as the upper's (usage.py).
_LOST_PREFIX = whiteout.PREFIX + PREFIX


class Link:
    """A copy's name in the work directory, and the copy's (st_dev, st_ino)."""

    __slots__ = ("key", "number", "pending", "time")

    def __init__(self, number: int, time: int, pending: int, key: Key) -> None:
        self.number = number
        self.time = time
        self.pending = pending
        self.key = key


class Links:
    """The copies of files with several names. All methods raise OSError."""

    def __init__(self, upper: Layer, work: Work, store: Store, numbers: Numbers) -> None:
        self._upper = upper
        self._numbers = numbers
        self._work = work.fd
        self._store = store
        self._by_original: dict[tuple[int, int], Link] = {}
        self._by_copy: dict[Key, Link] = {}
        # Names that lower files have lost, by number and time: as long as they have no copy to remember it.
        self._lost: dict[tuple[int, int], int] = {}
        self._load()

    def find(self, number: int, time: int) -> Link | None:
        """The copy of the file with this inode number and st_mtime in ns."""
        return self._by_original.get((number, time))

    def shown_count(self, key: Key, st: os.stat_result) -> int:
        """The link count to show for a real file with this key and stat result."""
        link = self._by_copy.get(key)
        if link is not None:
            return st.st_nlink - 1 + link.pending
        if st.st_nlink == 1 or not self._lost:
            return st.st_nlink
        return max(0, st.st_nlink - self._lost.get(self._original(key, st), 0))

    def lose(self, key: Key, st: os.stat_result, left: int) -> None:
        """A lower file, whose stat result is `st`, has lost a name and has `left` others."""
        original = self._original(key, st)
        lost = self._lost.get(original, 0)
        if left <= 0:
            self._forget_lost(original)
            self._lost[original] = st.st_nlink  # it may still be open
            return
        self._lost[original] = lost + 1
        name = self._lost_name(original, lost + 1)
        if lost:
            os.rename(self._lost_name(original, lost), name, src_dir_fd=self._work, dst_dir_fd=self._work)
        else:
            os.mknod(name, stat.S_IFREG | 0o600, dir_fd=self._work)

    def add(self, original: Key, number: int, st: os.stat_result, copy: File, name: bytes, count: int) -> None:
        """Remember the copy of a file with several names, whose stat result is `st`.

        The copy is `name` in the work directory so far; it will be given `count` of the names at once.
        """
        pending = self.shown_count(original, st) - count
        self._forget_lost(self._original(original, st))
        if pending <= 0:
            return
        link = Link(number, st.st_mtime_ns, pending, (self._upper.root.dev, copy.ino))
        self._store.add_place(copy, self._work, self._name(link))
        os.link(name, self._name(link), src_dir_fd=self._work, dst_dir_fd=self._work, follow_symlinks=False)
        self._by_original[link.number, link.time] = self._by_copy[link.key] = link

    def take(self, link: Link, kind: int, directory: int, name: bytes) -> None:
        """Give a copy, of type `kind`, one more name of its original's."""
        known = self._name(link)
        self._store.add_place(self._file(link, kind), directory, name)
        os.link(known, name, src_dir_fd=self._work, dst_dir_fd=directory, follow_symlinks=False)
        if link.pending <= 1:
            self._forget(link, kind)
            return
        self._store.add_place(self._file(link, kind), self._work, self._name(link, link.pending - 1))
        os.rename(known, self._name(link, link.pending - 1), src_dir_fd=self._work, dst_dir_fd=self._work)
        self._store.drop_place(self._upper, kind, link.key[1], self._work, known)
        link.pending -= 1

    def _forget(self, link: Link, kind: int) -> None:
        name = self._name(link)
        os.unlink(name, dir_fd=self._work)
        self._store.drop_place(self._upper, kind, link.key[1], self._work, name)
        del self._by_original[link.number, link.time]
        del self._by_copy[link.key]

    def _file(self, link: Link, kind: int) -> File:
        return File(self._upper, kind, link.key[1], b"", ((self._work, self._name(link)),))

    def _name(self, link: Link, pending: int | None = None) -> bytes:
        count = link.pending if pending is None else pending
        return PREFIX + b"%x:%x:%x:%x" % (self._upper.root.ino, link.number, link.time, count)

    def _original(self, key: Key, st: os.stat_result) -> tuple[int, int]:
        return self._numbers.derive(key), st.st_mtime_ns

    def _lost_name(self, original: tuple[int, int], lost: int) -> bytes:
        return _LOST_PREFIX + b"%x:%x:%x:%x" % (self._upper.root.ino, *original, lost)

    def _forget_lost(self, original: tuple[int, int]) -> None:
        """Forget how many names a file has lost."""
        lost = self._lost.pop(original, 0)
        if lost:
            with suppress(FileNotFoundError):  # there is none when all names are lost
                os.unlink(self._lost_name(original, lost), dir_fd=self._work)

    def _load(self) -> None:
        for listed in os.listdir(self._work):
            name = os.fsencode(listed)
            if not name.startswith((PREFIX, _LOST_PREFIX)):
                continue
            try:
                root, number, time, pending = (int(field, 16) for field in name.partition(PREFIX)[2].split(b":"))
            except ValueError:
                continue
            if root != self._upper.root.ino:
                os.unlink(name, dir_fd=self._work)
                continue
            if name.startswith(_LOST_PREFIX):
                self._lost[number, time] = pending
                continue
            st = os.stat(name, dir_fd=self._work, follow_symlinks=False)
            link = Link(number, time, pending, (st.st_dev, st.st_ino))
            self._by_original[number, time] = self._by_copy[link.key] = link
