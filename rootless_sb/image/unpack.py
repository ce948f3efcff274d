"""From a layer's blob to a layer's directory tree."""

from __future__ import annotations

import os
import tarfile
from typing import IO, TYPE_CHECKING, cast

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import Doing, SbError
from rootless_sb.image import entries
from rootless_sb.image.decompression import UNREADABLE, Limits, TarStream
from rootless_sb.image.tar_split import Splitter
from rootless_sb.image.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from tarfile import TarInfo

    from rootless_sb.image.entries import Entry

_CHUNK = 1 << 20  # bytes written at once
_BLOCK = 512
_HINT = "pull it again; if that doesn't help, ask who made the image"


class Unpacked(NamedTuple):
    """What was in a layer: the digest of the uncompressed archive, the files' bytes, and how many files there are."""

    diff_id: str
    size: int
    files: int


def unpack(
    blob: IO[bytes],
    root: int,
    split: int,
    limits: Limits,
    others: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> Unpacked:
    """Unpack a layer into the empty directory `root`, and write to `split` what makes its archive again (`tar_split`);
    both are descriptors.

    `others`: mode bits that the files get in addition, for whoever else may read the store. `progress` is told how many
    bytes of the blob are done. The caller's umask is lifted meanwhile. Raises SbError; the tree is half done then.
    """
    umask = os.umask(0)
    try:
        with Doing("cannot unpack the layer", "make room: sb image prune, sb prune"):
            splitter = Splitter(split)
            stream = TarStream(blob, os.fstat(blob.fileno()).st_size, limits, splitter.read)
            tree = Tree(root, others)
            count = size = 0
            for info in _headers(stream):
                entry = entries.understand(info, limits.path)
                count, size = count + 1, size + entry.size
                if count > limits.files:
                    raise SbError(
                        "the layer has too many files", f"{limits.files} are the limit", "don't use this image"
                    )
                if size > limits.size:
                    raise SbError("the layer is too large", f"more than {limits.size} bytes", "don't use this image")
                tree.write(entry, _content(stream, info, entry, splitter) if entry.kind == entries.FILE else ())
                progress(blob.tell())
            diff_id = stream.finish()
            tree.finish()
            splitter.finish()
    finally:
        os.umask(umask)
    return Unpacked(diff_id, size, count)


def _headers(stream: TarStream) -> Iterator[TarInfo]:
    """The headers of an archive, one after the other. Raises SbError when it ends in the middle or isn't one."""
    try:
        stream.expect_headers()
        archive = tarfile.TarFile(fileobj=stream, mode="r", errors="surrogateescape")  # type: ignore[arg-type]  # what tarfile uses of a file
        # That has read the first header. Where it was a bad one, next() would go on behind it.
        info, archive.firstmember = archive.firstmember, None  # type: ignore[attr-defined]  # tarfile's stubs say less
        while info is not None:
            stream.expect_data()
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile remembers all that it has seen
            yield info
            stream.expect_headers()
            info = archive.next()
    except UNREADABLE as error:
        raise SbError("the layer is damaged", f"it is no tar archive: {error}", _HINT) from error
    # tarfile takes a header that it can't understand, and the lack of one, for the end.
    if stream.last.strip(b"\0") or len(stream.last) not in (0, _BLOCK):
        raise SbError("the layer is damaged", "it ends in the middle, or has garbage in it", _HINT)


def _content(
    stream: TarStream, info: TarInfo, entry: Entry, splitter: Splitter
) -> Iterator[tuple[int, memoryview]]:
    """A file's bytes, each piece with its offset in the file."""
    sparse = cast("list[tuple[int, int]] | None", info.sparse)  # what tarfile has parsed; its stubs say less
    parts = sparse if sparse is not None else [(0, info.size)]
    path = b"/".join((*entry.parent, entry.name))
    end = 0
    for offset, size in parts:
        if size == 0:  # GNU's old format fills its table up with these
            continue
        if offset < end or size < 0 or offset + size > info.size:
            raise SbError(f"the layer's file {info.name}", "its sparse map makes no sense", "don't trust this image")
        splitter.content(stream.tell(), path, offset, size)
        end = offset + size
        place = offset
        while place < end:
            piece = stream.piece(min(end - place, _CHUNK))
            if not piece:
                raise SbError("the layer is damaged", f"it ends in the middle of {info.name}", _HINT)
            yield place, piece
            place += len(piece)
