"""The format of an index: the extended attributes of files that can't have any, by name, in one file a directory.

Symbolic links, FIFOs, sockets and device nodes can't have user.* attributes (xattr(7)), and on NFS and the like no file
can. What would be an attribute of such a file stands in a file named `NAME` in its directory: it goes along when the
directory or the layer moves, and as the names of marks do, it can't be seen or made from inside. A layer whose root
has no such file has none anywhere.

    file    = magic "fovlidx1", inode number of this file, inode number of its directory (u64 each), record...
    record  = CRC-32 of all that follows in it (u32), length of name and attributes together (u32),
              the file's inode number (u64), length of its name (u16), its name, attribute...
    attribute = length of its name (u16), length of its value (u32), name, value

Numbers are little-endian. Records are added at the end; a later one for the same file replaces the earlier whole, and
one without attributes takes it back. What isn't complete or has a wrong sum, as a write that was cut short leaves it,
ends the index. The inode number of a record says which of two files that had the name one after the other is meant;
0 means whichever has it. In an index that was copied, so that the numbers at its beginning are another file's, the
inode numbers of its records mean nothing.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, TypeAlias

from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = b".wh..wh.fuse-overlay"

# What a file has, by name: never more than one record's worth.
Attributes: TypeAlias = "dict[bytes, bytes]"

_MAGIC = b"fovlidx1"
_HEADER = struct.Struct("<8sQQ")
_SUM = struct.Struct("<I")
_RECORD = struct.Struct("<IQH")
_ATTRIBUTE = struct.Struct("<HI")

# An index is written anew when this many bytes of it, and half of it, count no more.
_WASTE = 1 << 14


class Record(NamedTuple):
    """The attributes of one file; `ino` 0: whatever file has the name."""

    name: bytes
    ino: int
    attributes: Attributes


class Index:
    """An index as it was read.

    `length`: so many bytes of the file are good. `exact`: each record holds the inode number of the very file it means.
    """

    __slots__ = ("_found", "_live", "exact", "length")

    def __init__(self) -> None:
        self.exact = True
        self.length = self._live = _HEADER.size
        # In the order in which the records were written.
        self._found: dict[tuple[bytes, int], tuple[Attributes, int]] = {}

    def get(self, name: bytes, ino: int) -> Attributes:
        """The attributes of the file of this name and inode number; none if it isn't in here."""
        found = self._found.get((name, ino)) or self._found.get((name, 0))
        return found[0] if found is not None else {}

    def add(self, record: Record, size: int) -> None:
        """Note a record that was read or written, of so many bytes."""
        key = (record.name, record.ino)
        before = self._found.pop(key, None)
        if before is not None:
            self._live -= before[1]
        if record.attributes:
            self._found[key] = (record.attributes, size)
            self._live += size
            self.exact = self.exact and record.ino != 0
        self.length += size

    def by_name(self) -> None:
        """Let the last record of each name speak of whatever file has it."""
        self.exact = False
        self._found = {(name, 0): found for (name, _), found in self._found.items()}

    def is_wasteful(self) -> bool:
        """Whether it is worth writing anew."""
        return self.length - self._live > max(_WASTE, self._live)

    def records(self) -> list[Record]:
        """All that counts."""
        return [Record(name, ino, attributes) for (name, ino), (attributes, _) in self._found.items()]


def parse(data: bytes, ino: int, directory: int) -> Index | None:
    """What an index file holds that has the inode number `ino` and lies in `directory`. None: it isn't an index."""
    if len(data) < _HEADER.size:
        return None
    magic, own, above = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        return None
    index = Index()
    while True:
        start = index.length
        record, end = _parse_record(data, start)
        if record is None:
            break
        index.add(record, end - start)
    if (own, above) != (ino, directory):
        index.by_name()
    return index


def format_header(ino: int, directory: int) -> bytes:
    """The beginning of an index file of this inode number in this directory."""
    return _HEADER.pack(_MAGIC, ino, directory)


def format_record(record: Record) -> bytes:
    """One record. Raises ValueError for a name or value that is too long for it."""
    try:
        attributes = b"".join(
            _ATTRIBUTE.pack(len(name), len(value)) + name + value for name, value in record.attributes.items()
        )
        size = len(record.name) + len(attributes)
        body = _RECORD.pack(size, record.ino, len(record.name)) + record.name + attributes
    except struct.error as error:
        raise ValueError(str(error)) from None
    return _SUM.pack(zlib.crc32(body)) + body


def format_all(records: Iterable[Record], ino: int, directory: int) -> bytes:
    """A whole index file."""
    return b"".join([format_header(ino, directory), *map(format_record, records)])


def _parse_record(data: bytes, start: int) -> tuple[Record | None, int]:
    """The record at `start` and where it ends; None when there isn't a good one."""
    body = start + _SUM.size
    names = body + _RECORD.size
    if names > len(data):
        return None, start
    size, ino, length = _RECORD.unpack_from(data, body)
    end = names + size
    if end > len(data) or length > size or zlib.crc32(memoryview(data)[body:end]) != _SUM.unpack_from(data, start)[0]:
        return None, start
    attributes = _parse_attributes(data, names + length, end)
    if attributes is None:
        return None, start
    return Record(data[names : names + length], ino, attributes), end


def _parse_attributes(data: bytes, start: int, end: int) -> Attributes | None:
    attributes: Attributes = {}
    while start < end:
        if start + _ATTRIBUTE.size > end:
            return None
        length, size = _ATTRIBUTE.unpack_from(data, start)
        name = start + _ATTRIBUTE.size
        start = name + length + size
        if start > end:
            return None
        attributes[data[name : name + length]] = data[name + length : start]
    return attributes
