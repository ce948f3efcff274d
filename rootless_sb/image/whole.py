"""An image with all its blobs at hand: what goes to a registry or into an archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rootless_sb.errors import SbError
from rootless_sb.image import manifest
from rootless_sb.image.manifest import Manifest

if TYPE_CHECKING:
    from rootless_sb.image.blobs import Cache
    from rootless_sb.image.manifest import Descriptor
    from rootless_sb.image.record import Image
    from rootless_sb.image.store import Found, Store


class Whole(NamedTuple):
    """An image's manifest, as bytes too, and its configuration; the cache has all of its layers."""

    manifest: Manifest
    data: bytes
    config: bytes
    diff_ids: tuple[str, ...]


def gather(found: Found, cache: Cache) -> Whole:
    """Look for an image's blobs. Raises SbError when the cache has lost one.

    A layer that came with another image may be there in another compression only; then the manifest names that one.
    """
    data = found.store.read(found.image.identifier, "manifest")
    config = found.store.read(found.image.identifier, "config")
    known = _understood(data, found.image)
    diff_ids = manifest.parse_config(config).diff_ids
    if all(cache.has(each.digest, each.size) for each in known.layers):
        return Whole(known, data, config, diff_ids)
    others = _blobs_by_layer(found.store, cache)
    layers = tuple(
        each if cache.has(each.digest, each.size) else _other(others, diff_id, cache)
        for each, diff_id in zip(known.layers, diff_ids, strict=True)
    )
    changed = known._replace(layers=layers)
    return Whole(changed, manifest.render(changed), config, diff_ids)


def manifest_of(image: Image, store: Store) -> Manifest:
    """The manifest that an image came with. Raises SbError."""
    return _understood(store.read(image.identifier, "manifest"), image)


def _understood(data: bytes, image: Image) -> Manifest:
    found = manifest.parse(data)
    if not isinstance(found, Manifest):
        raise SbError(f"cannot read the image {image.identifier[:12]}", "its manifest is none")
    return found


def _other(others: dict[str, Descriptor], diff_id: str, cache: Cache) -> Descriptor:
    if diff_id not in others:
        why = f"the cache {cache.path} was cleared"
        hint = "sb image rm it and pull it again: that brings its compressed layers too"
        raise SbError(f"the blob of layer {diff_id[7:19]} is gone", why, hint)
    return others[diff_id]


def _blobs_by_layer(store: Store, cache: Cache) -> dict[str, Descriptor]:
    """The blobs in the cache, of all images, by the digests of what is in them."""
    found: dict[str, Descriptor] = {}
    for image in store.images():
        for layer, digits in zip(manifest_of(image, store).layers, image.layers, strict=True):
            if cache.has(layer.digest, layer.size):
                found[f"sha256:{digits}"] = layer
    return found
