"""Bringing an image into the store: its blobs into the cache, then its layers unpacked, then the image itself."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

import trio

from fuse_overlay.tuples import NamedTuple
from rootless_sb import faults
from rootless_sb.errors import SbError
from rootless_sb.image import manifest, record

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_sb.image.blobs import Cache, Partial
    from rootless_sb.image.manifest import Config, Descriptor, Manifest
    from rootless_sb.image.platform import Platform
    from rootless_sb.image.record import Image
    from rootless_sb.image.store import Store
    from rootless_sb.image.workers import Workers

_AT_ONCE = 4  # blobs fetched at the same time
_LOOK = 0.1  # seconds between looks at what another process fetches
_DEEPEST = 3  # indexes in indexes


class Source(Protocol):
    """Where an image comes from: a repository, or an archive."""

    async def manifest(self, wanted: str) -> tuple[bytes, str]:
        """The manifest or index of a tag or digest, and its type if that is known. Raises SbError."""

    async def fetch(self, wanted: Descriptor, partial: Partial, told: Callable[[int], None]) -> None:
        """Bring what is lacking of a blob, and finish it. Raises SbError."""


class Progress(Protocol):
    """Who is told how far the layers are; `digest` is the blob's."""

    def layer(self, digest: str, size: int) -> None:
        """There is a layer of so many bytes."""

    def fetched(self, digest: str, count: int) -> None:
        """So many bytes more have come."""

    def unpacking(self, digest: str, count: int) -> None:
        """So many bytes in all are unpacked."""

    def done(self, digest: str, *, was_there: bool) -> None:
        """The layer is in the store."""


class Means(NamedTuple):
    """What bringing an image in takes."""

    store: Store
    cache: Cache
    workers: Workers
    progress: Progress


class _Layer(NamedTuple):
    descriptor: Descriptor
    digits: str  # of the digest of the uncompressed archive


async def add(source: Source, wanted: str, platform: Platform, means: Means) -> Image:
    """Bring the image of a tag or digest in; it has no name yet. Raises SbError; the store is as before then.

    The caller holds the store's lock (`collection.adding`).
    """
    data, found = await _manifest(source, wanted, platform)
    if found.config.size > manifest.LARGEST_CONFIG:
        raise SbError("the image's configuration is too large", f"{manifest.LARGEST_CONFIG} bytes are the limit")
    means.cache.drop_if_damaged(found.config.digest)
    await _fetch(source, found.config, means.cache, lambda _: None)
    raw = means.cache.read(found.config.digest)
    config = manifest.parse_config(raw)
    manifest.check_layers(found, config)
    await _add_layers(source, found, config, means)
    layers = [each.partition(":")[2] for each in config.diff_ids]
    identifier = manifest.digest_of(raw).partition(":")[2]
    image = record.image_of(config, identifier, sum(map(means.store.layer_size, layers)))
    faults.point("layers-added")
    means.store.add(image, data, raw)
    return image


async def _manifest(source: Source, wanted: str, platform: Platform) -> tuple[bytes, Manifest]:
    """The manifest for a platform, by way of the index if there is one. Raises SbError."""
    for _ in range(_DEEPEST):
        data, kind = await source.manifest(wanted)
        if ":" in wanted:
            check_digest(data, wanted)
        found = manifest.parse(data, kind)
        if isinstance(found, manifest.Manifest):
            return data, found
        wanted = manifest.choose(found, platform).digest
    raise SbError("cannot understand the image", "its indexes are in each other", "ask who made the image")


def check_digest(data: bytes, digest: str) -> None:
    """Raise SbError unless some bytes have this digest."""
    algorithm = digest.partition(":")[0]
    if f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}" != digest:
        raise SbError(f"the blob {digest} is damaged", "its digest is another", "try again; then ask who has it")


async def _add_layers(source: Source, found: Manifest, config: Config, means: Means) -> None:
    pairs = zip(found.layers, config.diff_ids, strict=True)
    layers = {digest: _Layer(each, digest.partition(":")[2]) for each, digest in pairs}
    fetching = trio.Semaphore(_AT_ONCE)
    idle = list(range(means.workers.count))
    unpacking = trio.Semaphore(len(idle))

    async def add_one(layer: _Layer) -> None:
        digest = layer.descriptor.digest
        means.progress.layer(digest, layer.descriptor.size)
        if there := means.store.has_layer(layer.digits):
            means.progress.done(digest, was_there=there)
            return
        manifest.compression(layer.descriptor.media_type)
        try:
            await bring_one(layer)
        except SbError:
            if not means.cache.drop_if_damaged(digest):
                raise
            await bring_one(layer)  # what was in the cache was damaged there
        means.progress.done(digest, was_there=False)

    async def bring_one(layer: _Layer) -> None:
        digest = layer.descriptor.digest
        async with fetching:
            await _fetch(source, layer.descriptor, means.cache, lambda count: means.progress.fetched(digest, count))
        faults.point("blob-fetched")
        async with unpacking:
            number = idle.pop()
            place = means.cache.place(digest)
            tell = means.progress.unpacking
            try:
                await means.workers.unpack(number, layer.digits, place, lambda count: tell(digest, count))
            finally:
                idle.append(number)

    async with trio.open_nursery() as nursery:
        for layer in layers.values():
            nursery.start_soon(add_one, layer)


async def _fetch(source: Source, wanted: Descriptor, cache: Cache, told: Callable[[int], None]) -> None:
    """Have a blob in the cache, from the source or from whoever else is just fetching it. Raises SbError."""
    while not cache.has(wanted.digest, wanted.size):
        partial = cache.begin(wanted.digest, wanted.size)
        if partial is None:
            await trio.sleep(_LOOK)
            continue
        try:
            await source.fetch(wanted, partial, told)
        finally:
            partial.close()
