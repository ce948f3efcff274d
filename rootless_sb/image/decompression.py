"""Reading a compressed stream as the tar archive in it: checked, counted and bounded while it is read."""

from __future__ import annotations

import hashlib
import struct
import sys
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, Protocol

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 1 << 18  # bytes that are read or made at once
# What a compressed file begins with: RFC 1952, RFC 8878, bzip2, and the .xz file format.
_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"))
_LONGEST_MAGIC = 6
# A frame of zstd that holds no content begins with one of 16 bytes and this: RFC 8878, 3.1.2. zstd:chunked ends so.
_SKIPPABLE = b"\x2a\x4d\x18"
# What tarfile lets through of what goes wrong in it with headers that nobody has checked yet.
UNREADABLE = (tarfile.TarError, ValueError, OverflowError, LookupError, EOFError, RecursionError, struct.error)
_ADVICE = "it may be a decompression bomb: don't use this image"


class Limits(NamedTuple):
    """How much one layer may hold: bytes, files, bytes of a path, and bytes of the headers of one file.

    `ratio`: how many times larger than its compressed form it may be, once it is larger than `ratio_from` bytes.
    """

    size: int = 256 << 30
    files: int = 5_000_000
    path: int = 4095  # PATH_MAX with its NUL
    headers: int = (
        256 << 10
    )  # the kernel's limits for all names and for one value of extended attributes add up to half
    ratio: int = 250
    ratio_from: int = 1 << 30


class _Decompressor(Protocol):
    """What bz2, lzma and zstd have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """zlib's decompressor for gzip (16 + MAX_WBITS: zlib.h, inflateInit2), with the interface of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = 0) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def kind_of(beginning: bytes) -> str:
    """How a file that begins so is compressed: `gzip`, `zstd`, `bzip2`, `xz`, or empty for not at all. Pure."""
    if beginning[1:4] == _SKIPPABLE and beginning[0] >> 4 == 5:
        return "zstd"
    return next((name for magic, name in _MAGIC if beginning.startswith(magic)), "")


class TarStream:
    """The uncompressed content of a file, to be read once from its beginning to its end.

    It has what `tarfile` asks of a file. `told` gets each piece once, in order, before it is read. Raises SbError from
    `read` and `seek`: damaged data, or more than the limits.
    """

    def __init__(
        self, file: IO[bytes], compressed_size: int, limits: Limits, told: Callable[[memoryview], None] | None = None
    ) -> None:
        self._file = file
        self._limits = limits
        self._told = told
        self._compressed_size = compressed_size
        self._most = min(limits.size, max(limits.ratio_from, compressed_size * limits.ratio))
        self._hash = hashlib.sha256()
        self._raw = file.read(_CHUNK)
        self._next = self._decompressed(kind_of(self._raw))
        self._buffer = memoryview(b"")
        self._start = 0  # where the buffer begins in the stream
        self._place = 0  # in the buffer
        self._allowance: int | None = None
        self.last = b""  # what the last read returned, if it was short

    def tell(self) -> int:
        """How many bytes were read."""
        return self._start + self._place

    def read(self, size: int) -> bytes:
        """So many bytes, less only at the end."""
        if self._allowance is not None:
            self._allowance -= size
            if self._allowance < 0:
                raise SbError(
                    "a file's headers in the layer are too long", f"{self._limits.headers} bytes are the limit"
                )
        end = self._place + size
        if end <= len(self._buffer):
            data = bytes(self._buffer[self._place : end])
            self._place = end
        else:
            data = b"".join(self.pieces(size))
        self.last = data
        return data

    def pieces(self, size: int) -> list[memoryview]:
        """So many bytes, less only at the end, in pieces as they come; meant for sizes that fit into memory."""
        found = []
        while size > 0 and (piece := self.piece(size)):
            found.append(piece)
            size -= len(piece)
        return found

    def piece(self, most: int) -> memoryview:
        """Some bytes, at most so many; none at the end."""
        if self._place == len(self._buffer) and not self._advance():
            return memoryview(b"")
        piece = self._buffer[self._place : self._place + most]
        self._place += len(piece)
        return piece

    def seek(self, place: int) -> None:
        """Go forward to a place."""
        missing = place - self.tell()
        if missing < 0:
            raise SbError("cannot read the layer", "its headers point backwards")
        while missing > 0 and (piece := self.piece(missing)):
            missing -= len(piece)

    def expect_headers(self) -> None:
        """Reads from here on are of one file's headers, and bounded as such."""
        self._allowance = self._limits.headers

    def expect_data(self) -> None:
        """Reads from here on are of a file's content."""
        self._allowance = None

    def finish(self) -> str:
        """Read what is left, and return the digest of everything."""
        while self.piece(_CHUNK):
            continue
        return f"sha256:{self._hash.hexdigest()}"

    def _advance(self) -> bool:
        """Have the next bytes in the buffer; whether there were any."""
        self._start += len(self._buffer)
        self._place = 0
        self._buffer = memoryview(self._next())
        self._hash.update(self._buffer)
        if self._told is not None:
            self._told(self._buffer)
        if self._start + len(self._buffer) > self._most:
            raise _too_large(self._start + len(self._buffer), self._compressed_size, self._limits)
        return bool(self._buffer)

    def _decompressed(self, kind: str) -> Callable[[], bytes]:
        """A function that returns the next bytes, none at the end."""
        if not kind:
            return self._raw_bytes
        make = _decompressors(kind)
        decompressor: _Decompressor | None = make()

        def advance() -> bytes:
            nonlocal decompressor
            while decompressor is not None:
                if decompressor.eof:  # another member may follow: RFC 1952, 2.2
                    self._raw = (decompressor.unused_data or self._raw_bytes()).lstrip(b"\0")
                    if 0 < len(self._raw) < _LONGEST_MAGIC:
                        self._raw += self._file.read(_CHUNK)
                    decompressor = make() if kind_of(self._raw) == kind else None
                    if self._raw and decompressor is None:
                        raise _damaged(f"garbage follows the {kind} data")
                    continue
                data = self._raw_bytes() if decompressor.needs_input else b""
                if decompressor.needs_input and not data:
                    raise _damaged(f"its {kind} data end in the middle")
                try:
                    made = decompressor.decompress(data, _CHUNK)
                except Exception as error:  # each library has its own class, and none says what the others may raise
                    raise _damaged(f"bad {kind} data: {error}") from error
                if made:
                    return made
            return b""

        return advance

    def _raw_bytes(self) -> bytes:
        data, self._raw = self._raw, b""
        return data or self._file.read(_CHUNK)


def _decompressors(kind: str) -> Callable[[], _Decompressor]:
    """What makes decompressors of a kind."""
    if kind == "gzip":
        return _Gzip
    if kind == "bzip2":
        import bz2

        return bz2.BZ2Decompressor
    if kind == "xz":
        import lzma

        return lambda: lzma.LZMADecompressor(memlimit=1 << 30)
    if sys.version_info >= (3, 14):
        from compression.zstd import ZstdDecompressor
    else:
        from backports.zstd import ZstdDecompressor
    return ZstdDecompressor


def _too_large(size: int, compressed: int, limits: Limits) -> SbError:
    if size > limits.size:
        return SbError("the layer is too large", f"more than {limits.size} bytes", _ADVICE)
    return SbError(
        "the layer is too large", f"more than {limits.ratio} times its compressed {compressed} bytes", _ADVICE
    )


def _damaged(why: str) -> SbError:
    return SbError("the layer is damaged", why, "pull it again; if that doesn't help, ask who made the image")
