"""Manifests, indexes and configurations of images, from JSON to records. Pure.

Formats: OCI image-spec (manifest.md, image-index.md, config.md) and docker's schema 2 (distribution,
docs/spec/manifest-v2-2.md). Everything here comes from strangers: whatever isn't as the formats say is an SbError.
"""

from __future__ import annotations

import hashlib
import json
from typing import TypeAlias

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError
from rootless_sb.image import platform, reference
from rootless_sb.image.platform import Platform

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
ACCEPTED = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)

LARGEST = 4 << 20  # bytes of a manifest or index: what registries must take at least (distribution-spec, Limits)
LARGEST_CONFIG = 16 << 20
MOST_LAYERS = 500  # docker stops at 127; overlay's cost grows with each

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


class Descriptor(NamedTuple):
    """A blob: its type, digest and size in bytes."""

    media_type: str
    digest: str
    size: int


class Manifest(NamedTuple):
    """One image for one platform: its configuration and its layers, the lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


class IndexEntry(NamedTuple):
    """An image of an index; `platform` is None where the index doesn't say, `name` what an archive calls it."""

    descriptor: Descriptor
    platform: Platform | None
    name: str = ""


class Config(NamedTuple):
    """What an image says of itself. `diff_ids`: the digests of the uncompressed layers, the lowest first."""

    platform: Platform
    diff_ids: tuple[str, ...]
    created: str = ""
    environment: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    directory: str = ""
    user: str = ""
    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    stop_signal: str = ""
    labels: tuple[tuple[str, str], ...] = ()


def digest_of(data: bytes) -> str:
    """The sha256 digest of some bytes, as descriptors write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def parse(data: bytes, media_type: str = "") -> Manifest | tuple[IndexEntry, ...]:
    """A manifest, or the entries of an index. `media_type`: what the transport says it is. Raises SbError."""
    document = load(data, "the manifest")
    kind = _text(document.get("mediaType"), "mediaType") or media_type.partition(";")[0].strip()
    if document.get("schemaVersion") == 1:
        raise _bad("the manifest", "it has docker's schema 1, which was given up in 2017", "pull a newer tag")
    if document.get("schemaVersion") != 2:
        raise _bad("the manifest", "it has no schemaVersion 2")
    if kind in (OCI_INDEX, DOCKER_LIST) or (kind not in ACCEPTED and "manifests" in document):
        if "layers" in document:
            raise _bad("the index", "it has layers: it would be another image to other programs")
        return tuple(_index_entry(each) for each in _list(document.get("manifests"), "manifests"))
    if kind and kind not in (OCI_MANIFEST, DOCKER_MANIFEST):
        raise _bad("the manifest", f"its type {kind} is none that sb knows")
    if "manifests" in document:
        raise _bad("the manifest", "it has manifests: it would be another image to other programs")
    layers = tuple(descriptor(each) for each in _list(document.get("layers"), "layers"))
    if len(layers) > MOST_LAYERS:
        raise _bad("the manifest", f"it has {len(layers)} layers; {MOST_LAYERS} is the limit")
    return Manifest(kind or OCI_MANIFEST, descriptor(document.get("config")), layers)


def choose(entries: tuple[IndexEntry, ...], wanted: Platform) -> Descriptor:
    """The image of an index for a platform. Raises SbError that names those it has."""
    known = [(each.descriptor, each.platform) for each in entries if each.platform is not None]
    place = platform.best(wanted, (offered for _, offered in known))
    if place is not None:
        return known[place][0]
    if len(entries) == 1 and not known:  # archives of one image often don't say
        return entries[0].descriptor
    offered = ", ".join(sorted({str(each) for _, each in known if each.os != "unknown"})) or "none"
    raise SbError(f"there is no image for {wanted}", f"there are for {offered}", "--platform chooses one of these")


def parse_config(data: bytes) -> Config:
    """An image's configuration. Raises SbError."""
    document = load(data, "the configuration")
    config = _object(document.get("config") or {}, "config")
    rootfs = _object(document.get("rootfs"), "rootfs")
    diff_ids = tuple(_digest(each) for each in _list(rootfs.get("diff_ids") or [], "diff_ids"))
    labels = _object(config.get("Labels") or {}, "Labels")
    return Config(
        platform=_platform(document),
        diff_ids=diff_ids,
        created=_text(document.get("created"), "created"),
        environment=tuple(each for each in _texts(config, "Env") if "=" in each[1:]),
        entrypoint=_texts(config, "Entrypoint"),
        command=_texts(config, "Cmd"),
        directory=_text(config.get("WorkingDir"), "WorkingDir"),
        user=_text(config.get("User"), "User"),
        volumes=tuple(sorted(_object(config.get("Volumes") or {}, "Volumes"))),
        ports=tuple(sorted(_object(config.get("ExposedPorts") or {}, "ExposedPorts"))),
        stop_signal=_text(config.get("StopSignal"), "StopSignal"),
        labels=tuple((name, _text(value, name)) for name, value in sorted(labels.items())),
    )


def check_layers(manifest: Manifest, config: Config) -> None:
    """Raise SbError unless manifest and configuration speak of the same layers."""
    if len(manifest.layers) != len(config.diff_ids):
        layers, ids = len(manifest.layers), len(config.diff_ids)
        raise _bad("the image", f"its manifest has {layers} layers, its configuration {ids}")


def compression(media_type: str) -> str:
    """How a layer of this type is compressed: `gzip`, `zstd`, or empty for not at all. Raises SbError."""
    plain = media_type.replace(".nondistributable", "").replace(".foreign", "")
    for suffix, name in (("+gzip", "gzip"), (".gzip", "gzip"), ("+zstd", "zstd"), (".zstd", "zstd")):
        if plain in (OCI_LAYER + suffix, DOCKER_LAYER + suffix):
            return name
    if plain in (OCI_LAYER, DOCKER_LAYER):
        return ""
    raise SbError(f"a layer has the type {media_type}", "sb doesn't know how to unpack it", "is it an image at all?")


def render(manifest: Manifest) -> bytes:
    """The manifest as JSON."""
    return as_json(
        {
            "schemaVersion": 2,
            "mediaType": manifest.media_type,
            "config": plain(manifest.config),
            "layers": [plain(each) for each in manifest.layers],
        }
    )


def as_json(document: Json) -> bytes:
    """JSON as registries keep it: the bytes are what the digest is of."""
    return json.dumps(document, separators=(",", ":")).encode()


def plain(described: Descriptor) -> dict[str, Json]:
    """A descriptor as an object of JSON."""
    return {"mediaType": described.media_type, "digest": described.digest, "size": described.size}


def descriptor(value: Json) -> Descriptor:
    """The descriptor that an object of JSON is. Raises SbError."""
    found = _object(value, "descriptor")
    size = found.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
        raise _bad("a descriptor", f"its size is {size!r}")
    return Descriptor(_text(found.get("mediaType"), "mediaType"), _digest(found.get("digest")), size)


def load(data: bytes, what: str) -> dict[str, Json]:
    """The object of JSON in `data`; `what` names it in errors. Raises SbError."""
    if len(data) > LARGEST_CONFIG:
        raise _bad(what, f"it has {len(data)} bytes; {LARGEST_CONFIG} is the limit")
    try:
        return _object(json.loads(data), what)
    except (ValueError, RecursionError):  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise _bad(what, "it is not JSON") from None


def _index_entry(value: Json) -> IndexEntry:
    found = _object(value, "manifests")
    said = found.get("platform")
    annotations = _object(found.get("annotations") or {}, "annotations")
    name = _text(annotations.get("org.opencontainers.image.ref.name"), "ref.name")
    return IndexEntry(descriptor(value), None if said is None else _platform(_object(said, "platform")), name)


def _platform(found: dict[str, Json]) -> Platform:
    return Platform(*(_text(found.get(key), key) for key in ("os", "architecture", "variant")))


def _digest(value: Json) -> str:
    if not isinstance(value, str) or not reference.is_digest(value):
        raise _bad("a descriptor", f"{value!r} is not a digest")
    return value


def _texts(found: dict[str, Json], key: str) -> tuple[str, ...]:
    value = found.get(key)
    if isinstance(value, str):  # what some old builders wrote for a list of one
        return (_text(value, key),)
    return tuple(_text(each, key) for each in _list(value or [], key))


def _object(value: Json, what: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise _bad(what, "it is not an object of JSON")
    return value


def _list(value: Json, what: str) -> list[Json]:
    if not isinstance(value, list):
        raise _bad(what, "it is not a list")
    return value


def _text(value: Json, what: str) -> str:
    """A text without NUL, which neither an argument nor a path could hold."""
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value or not _encodable(value):
        raise _bad(what, "it is not a text")
    return value


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can write
        return False
    return True


def _bad(what: str, why: str, hint: str = "") -> SbError:
    return SbError(f"cannot understand {what}", why, hint or "the image is damaged: ask who made it")
