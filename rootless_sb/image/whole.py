"""An image with all its blobs at hand: what goes to a registry or into an archive."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError
from rootless_sb.image import manifest, remaking
from rootless_sb.image.manifest import Manifest
from rootless_sb.image.store import hold
from rootless_sb.ui import messages

if TYPE_CHECKING:
    from rootless_sb.image.blobs import Cache
    from rootless_sb.image.manifest import Descriptor
    from rootless_sb.image.record import Image
    from rootless_sb.image.remaking import Remade
    from rootless_sb.image.store import Found, Store


class Whole(NamedTuple):
    """An image's manifest, as bytes too, and its configuration; `open` has all of its layers.

    `remade`: blobs that the cache had no more, by digest.
    """

    manifest: Manifest
    data: bytes
    config: bytes
    diff_ids: tuple[str, ...]
    cache: Cache
    remade: dict[str, IO[bytes]]

    def open(self, digest: str) -> IO[bytes]:
        """A layer's blob, to read. Raises SbError."""
        if digest in self.remade:
            return open(f"/proc/self/fd/{self.remade[digest].fileno()}", "rb")
        return self.cache.open(digest)


def gather(found: Found, cache: Cache, *, quiet: bool) -> Whole:
    """Look for an image's blobs. Raises SbError when one is lost. This process holds the image from then on.

    A layer that came with another image may be in the cache in another compression only; then the manifest names that
    one. One that the cache has lost is made again, which is said unless `quiet`.
    """
    hold(found.store.image_directory(found.image.identifier))
    data = found.store.read(found.image.identifier, "manifest")
    config = found.store.read(found.image.identifier, "config")
    known = _understood(data, found.image)
    diff_ids = manifest.parse_config(config).diff_ids
    if all(cache.has(each.digest, each.size) for each in known.layers):
        return Whole(known, data, config, diff_ids, cache, {})
    others = _blobs_by_layer(found.store, cache)
    remade: dict[str, IO[bytes]] = {}
    layers = []
    for each, diff_id in zip(known.layers, diff_ids, strict=True):
        if cache.has(each.digest, each.size):
            layers.append(each)
            continue
        if diff_id not in others:
            others[diff_id], file = _remake(found.store, diff_id, each.media_type, cache)
            remade[others[diff_id].digest] = file
        layers.append(others[diff_id])
    changed = known._replace(layers=tuple(layers))
    if changed == known:
        return Whole(known, data, config, diff_ids, cache, remade)
    if remade and not quiet:
        count = len(remade)
        messages.say(f"{count} of its layers had to be compressed again: the digest of its manifest is another one")
    return Whole(changed, manifest.render(changed), config, diff_ids, cache, remade)


def manifest_of(image: Image, own: Store) -> Manifest:
    """The manifest that an image came with. Raises SbError."""
    return _understood(own.read(image.identifier, "manifest"), image)


def _understood(data: bytes, image: Image) -> Manifest:
    found = manifest.parse(data)
    if not isinstance(found, Manifest):
        raise SbError(f"cannot read the image {image.identifier[:12]}", "its manifest is none")
    return found


def _remake(own: Store, diff_id: str, media_type: str, cache: Cache) -> Remade:
    """A blob that the cache has lost. Raises SbError."""
    try:
        return remaking.remake(own, diff_id.partition(":")[2], media_type)
    except SbError as error:
        what = f"the blob of layer {diff_id[7:19]} is gone"
        why = f"the cache {cache.path} was cleared; {error}"
        hint = error.hint or "sb image rm it and pull it again: that brings its compressed layers too"
        raise SbError(what, why, hint) from error


def _blobs_by_layer(own: Store, cache: Cache) -> dict[str, Descriptor]:
    """The blobs in the cache, of all images, by the digests of what is in them."""
    found: dict[str, Descriptor] = {}
    for image in own.images():
        for layer, digits in zip(manifest_of(image, own).layers, image.layers, strict=True):
            if cache.has(layer.digest, layer.size):
                found[f"sha256:{digits}"] = layer
    return found
