"""Index files: read with the last ones remembered, and written so that whoever dies leaves the old or the new state."""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING

from fuse_overlay import index
from fuse_overlay.index import Index, Record
from fuse_overlay.times import keeping_times

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuse_overlay.index import Attributes

_NEW = index.NAME + b".new"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def exists(directory: int) -> bool:
    """Whether a directory has an index. For a layer's root: whether any of its directories may have one."""
    return _stat(directory) is not None


def write(directory: int, attributes: dict[bytes, Attributes]) -> None:
    """Give a directory of a layer an index with the attributes of the files in it, by name; instead of any other.

    `directory`: a descriptor, O_PATH will do. Whoever makes a layer calls this for each directory with files that
    can't have attributes themselves, and for the layer's root in any case, with or without such files. `.` stands for
    the root itself. Raises OSError, and ValueError for names of more than 65,535 bytes.
    """
    _replace(directory, [Record(name, 0, given) for name, given in attributes.items()])


def sync(directory: int) -> None:
    """Bring the index of a directory to the disk, if there is one. Raises OSError."""
    if exists(directory):
        fd = os.open(index.NAME, _READ, dir_fd=directory)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class Indexes:
    """The indexes of all layers, by directory. A bounded number of them is remembered."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        # By the directory's (st_dev, st_ino): the index, and the (st_ino, st_size) of the file that it was read from.
        self._known: OrderedDict[tuple[int, int], tuple[Index, tuple[int, int]]] = OrderedDict()

    def get(self, directory: int, name: bytes, ino: int) -> Attributes:
        """The attributes of a file in an open directory; none if there is no record of it. Raises OSError."""
        found = self._load(directory)
        return found.get(name, ino) if found is not None else {}

    def put(self, directory: int, name: bytes, ino: int, attributes: Attributes) -> None:
        """Record the attributes of a file, instead of all it had; without any, take its record back. Raises OSError."""
        found = self._load(directory)
        if not attributes and (found is None or not found.get(name, ino)):
            return
        record = Record(name, ino, attributes)
        if found is None or not found.exact or found.is_wasteful():
            self._rewrite(directory, found, record)
        else:
            self._append(directory, found, record)

    def _load(self, directory: int) -> Index | None:
        st = _stat(directory)
        if st is None:
            return None
        above = os.fstat(directory)
        key = (above.st_dev, above.st_ino)
        known = self._known.get(key)
        if known is not None and known[1] == (st.st_ino, st.st_size):
            self._known.move_to_end(key)
            return known[0]
        data = _read(directory)
        found = index.parse(data, st.st_ino, above.st_ino) if data is not None else None
        if found is not None:
            self._remember(key, found, (st.st_ino, len(data or b"")))
        return found

    def _remember(self, key: tuple[int, int], found: Index, state: tuple[int, int]) -> None:
        self._known[key] = (found, state)
        self._known.move_to_end(key)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)

    def _append(self, directory: int, found: Index, record: Record) -> None:
        data = index.format_record(record)
        fd = os.open(index.NAME, _WRITE, dir_fd=directory)
        try:
            st = os.fstat(fd)
            if st.st_size > found.length:
                os.ftruncate(fd, found.length)  # the half record of a writer that was killed, or had no space
            _write_all(fd, data, found.length)
        finally:
            os.close(fd)
        found.add(record, len(data))
        above = os.fstat(directory)
        self._remember((above.st_dev, above.st_ino), found, (st.st_ino, found.length))

    def _rewrite(self, directory: int, found: Index | None, record: Record) -> None:
        """Write an index anew, each record with the inode number of the file that it means."""
        records = found.records() if found is not None else []
        exact = [old if old.ino else old._replace(ino=_ino(directory, old.name)) for old in records]
        kept = [old for old in exact if old.ino and (old.name, old.ino) != (record.name, record.ino)]
        _replace(directory, [*kept, record] if record.attributes else kept)


def _stat(directory: int) -> os.stat_result | None:
    try:
        return os.stat(index.NAME, dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.ESTALE, errno.ENOTDIR):
            return None
        raise


def _ino(directory: int, name: bytes) -> int:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return 0


def _read(directory: int) -> bytes | None:
    """An index file's content; None if it isn't a file that we may read."""
    try:
        fd = os.open(index.NAME, _READ, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.ELOOP, errno.ENXIO):
            return None
        raise
    with open(fd, "rb", buffering=0) as file:
        return file.readall() if stat.S_ISREG(os.fstat(fd).st_mode) else None


def _replace(directory: int, records: Iterable[Record]) -> None:
    """Put a whole index into place. Nobody sees half of it, and the directory's times stay."""
    with keeping_times(directory):
        fd = os.open(_NEW, _WRITE | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=directory)
        try:
            data = index.format_all(records, os.fstat(fd).st_ino, os.fstat(directory).st_ino)
            _write_all(fd, data, 0)
        finally:
            os.close(fd)
        os.rename(_NEW, index.NAME, src_dir_fd=directory, dst_dir_fd=directory)


def _write_all(fd: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written
