"""A layer's blob made again of the unpacked layer, for when the cache of blobs was cleared."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from typing import IO, TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import Doing, SbError
from rootless_sb.image import manifest, tar_split
from rootless_sb.image.manifest import Descriptor

if TYPE_CHECKING:
    from rootless_sb.image.store import Store

_LEVEL = 6  # zlib's own default, and gzip(1)'s; written down because the blob's digest depends on it


class Remade(NamedTuple):
    """A blob in a file without a name, and what a manifest says of it."""

    descriptor: Descriptor
    file: IO[bytes]


def remake(store: Store, layer: str, media_type: str) -> Remade:
    """Make the blob of a layer, whose digest has these digits, again: as it is or compressed by gzip, as its type was.

    The archive in it is the same to the byte, and the same layer always makes the same blob; compressed by another
    program it was another one. Raises SbError.
    """
    packed = manifest.compression(media_type) != ""
    compressor = zlib.compressobj(_LEVEL, wbits=16 + zlib.MAX_WBITS) if packed else None
    unpacked_sum, blob_sum = hashlib.sha256(), hashlib.sha256()
    what = f"cannot make layer {layer[:12]} again"
    with Doing(what):
        split = store.open_split(layer)
    with split, Doing(what, "set TMPDIR to a directory on another disk"):
        copy = tempfile.TemporaryFile()  # noqa: SIM115 (whoever asked for it closes it)
        tree = os.open(store.tree(layer), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for piece in tar_split.join(split, tree):
                unpacked_sum.update(piece)
                made = compressor.compress(piece) if compressor else piece
                blob_sum.update(made)
                copy.write(made)
        finally:
            os.close(tree)
        rest = compressor.flush() if compressor else b""
        blob_sum.update(rest)
        copy.write(rest)
        copy.flush()
    if unpacked_sum.hexdigest() != layer:
        raise SbError(what, "its archive has files that its tree hasn't")
    descriptor = Descriptor(media_type.replace("zstd", "gzip"), f"sha256:{blob_sum.hexdigest()}", copy.tell())
    return Remade(descriptor, copy)
