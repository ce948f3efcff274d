"""A file that may be compressed or a pipe, as a plain one that can be read anywhere."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from typing import IO, TYPE_CHECKING

from rootless_sb.errors import Doing, SbError
from rootless_sb.image import decompression
from rootless_sb.image.blobs import CHUNK

if TYPE_CHECKING:
    from rootless_sb.image.decompression import Limits


def opened(path: str) -> IO[bytes]:
    """A file that can be read anywhere; `-` is stdin, which is copied unless it is a file. Raises SbError."""
    if path != "-":
        with Doing(f"cannot read {path}"):
            return open(path, "rb")
    if sys.stdin.isatty():
        raise SbError("there is nothing on stdin", hint="name a file, or redirect stdin from one")
    if stat.S_ISREG(os.fstat(0).st_mode) and os.lseek(0, 0, os.SEEK_CUR) == 0:
        return os.fdopen(os.dup(0), "rb")
    with Doing("cannot copy stdin", "set TMPDIR to a directory on another disk"):
        copy = tempfile.TemporaryFile()  # noqa: SIM115 (whoever asked for it closes it)
        while data := os.read(0, CHUNK):
            copy.write(data)
        copy.seek(0)
        return copy


def plain(file: IO[bytes], limits: Limits) -> IO[bytes]:
    """The same if it isn't compressed, else a copy that isn't. Raises SbError."""
    kind = decompression.kind_of(file.read(6))
    file.seek(0)
    if not kind:
        return file
    with Doing("cannot decompress the archive", "set TMPDIR to a directory on another disk"):
        stream = decompression.TarStream(file, os.fstat(file.fileno()).st_size, limits)
        copy = tempfile.TemporaryFile()  # noqa: SIM115 (whoever asked for it closes it)
        while piece := stream.piece(CHUNK):
            copy.write(piece)
        copy.seek(0)
        return copy
