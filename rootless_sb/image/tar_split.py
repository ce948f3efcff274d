"""What of a layer's archive isn't its files' content: with the unpacked tree it makes the archive again, to the byte.

docker and podman keep the same beside their layers (github.com/vbatts/tar-split), since two programs hardly ever write
the same archive of the same files, and an image names its layers by the digests of theirs. The format is ours, a
sequence of these, compressed with gzip:
    b"B" LENGTH (4 bytes) and so many bytes as they are
    b"F" OFFSET (8) SIZE (8) LENGTH (2) PATH     so many bytes of a file of the tree
"""

from __future__ import annotations

import gzip
import os
import stat
import struct
import zlib
from typing import IO, TYPE_CHECKING

from rootless_sb.errors import SbError
from rootless_sb.kernel import files, mounts

if TYPE_CHECKING:
    from collections.abc import Iterator

_BYTES, _CONTENT = b"B", b"F"
_LENGTH = struct.Struct(">I")
_PART = struct.Struct(">QQH")
_CHUNK = 1 << 20  # bytes read at once
_FASTEST = 1  # of zlib's levels: headers are mostly zeros, and whoever unpacks waits for it


class Splitter:
    """Writes that file, a descriptor, while the archive is read: gets every piece of it by `read`, and is told by
    `content` which part is which file's. Raises OSError.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._compressor = zlib.compressobj(_FASTEST, wbits=16 + zlib.MAX_WBITS)  # gzip's form: zlib.h, deflateInit2
        self._piece = memoryview(b"")
        self._start = 0  # where the piece begins in the archive
        self._done = 0  # up to where everything is written

    def read(self, piece: memoryview) -> None:
        """The next piece of the archive."""
        self._write_until(self._start + len(self._piece))
        self._start += len(self._piece)
        self._piece = piece

    def content(self, start: int, path: bytes, offset: int, size: int) -> None:
        """From `start` in the archive on, which is in the last piece or at its end, `size` bytes are those that the
        tree's file `path` has at `offset`.
        """
        self._write_until(start)
        self._write(_CONTENT + _PART.pack(offset, size, len(path)) + path)
        self._done = start + size

    def finish(self) -> None:
        """There is no more."""
        self.read(memoryview(b""))
        files.write_all(self._file, self._compressor.flush())

    def _write_until(self, end: int) -> None:
        if end > self._done:
            part = self._piece[self._done - self._start : end - self._start]
            self._write(_BYTES + _LENGTH.pack(len(part)))
            self._write(part)
            self._done = end

    def _write(self, data: bytes | memoryview) -> None:
        if made := self._compressor.compress(data):
            files.write_all(self._file, made)


def join(split: IO[bytes], tree: int) -> Iterator[bytes]:
    """The archive in pieces, from what a Splitter wrote and the directory (a descriptor) that it was unpacked to.

    Whoever reads it checks the digest. Raises OSError, and SbError for a file that isn't what it was.
    """
    with gzip.GzipFile(fileobj=split) as records:
        while kind := records.read(1):
            if kind == _BYTES:
                yield records.read(*_LENGTH.unpack(records.read(_LENGTH.size)))
            else:
                offset, size, length = _PART.unpack(records.read(_PART.size))
                yield from _content(tree, records.read(length), offset, size)


def _content(tree: int, path: bytes, offset: int, size: int) -> Iterator[bytes]:
    """A part of a file. A symlink can be on the way where an archive has a name twice: it leads nowhere else."""
    place = mounts.open_in_root(tree, os.fsdecode(path))
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise _changed(path)
        file = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(place)
    try:
        while size > 0:
            data = os.pread(file, min(size, _CHUNK), offset)
            if not data:
                raise _changed(path)
            yield data
            offset, size = offset + len(data), size - len(data)
    finally:
        os.close(file)


def _changed(path: bytes) -> SbError:
    return SbError(f"the layer's file {os.fsdecode(path)}", "it isn't what it was in the layer's archive")
