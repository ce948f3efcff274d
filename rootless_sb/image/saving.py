"""Archives of images, written: docker's and OCI's (see `archive` for the formats)."""

from __future__ import annotations

import io
import os
import tarfile
from typing import IO, TYPE_CHECKING

from rootless_sb.errors import SbError
from rootless_sb.image import manifest
from rootless_sb.image.decompression import Limits, TarStream

if TYPE_CHECKING:
    from rootless_sb.image.manifest import Json
    from rootless_sb.image.reference import Reference
    from rootless_sb.image.whole import Whole

DOCKER, OCI = "docker-archive", "oci-archive"
# What Limits are for is over: these layers were unpacked before.
_UNBOUNDED = Limits(size=1 << 62, ratio_from=1 << 62)


def write(file: IO[bytes], form: str, whole: Whole, names: list[Reference]) -> None:
    """Write an archive of one image to a file or pipe. Raises SbError, OSError."""
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        if form == DOCKER:
            _write_docker(archive, whole, names)
        else:
            _write_oci(archive, whole, names)


def _write_docker(archive: tarfile.TarFile, whole: Whole, names: list[Reference]) -> None:
    paths: list[Json] = []
    for layer, diff_id in zip(whole.manifest.layers, whole.diff_ids, strict=True):
        path = f"{diff_id.partition(':')[2]}.tar"
        if path not in paths:
            _add_uncompressed(archive, path, layer.digest, diff_id, whole)
        paths.append(path)
    config = f"{manifest.digest_of(whole.config).partition(':')[2]}.json"
    _add(archive, config, whole.config)
    tags: list[Json] = [name._replace(digest="").familiar() for name in names if name.tag]
    _add(archive, "manifest.json", manifest.as_json([{"Config": config, "RepoTags": tags, "Layers": paths}]))


def _write_oci(archive: tarfile.TarFile, whole: Whole, names: list[Reference]) -> None:
    for path in ("blobs", "blobs/sha256"):
        directory = _header(path, 0)
        directory.type, directory.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(directory)
    _add(archive, "oci-layout", manifest.as_json({"imageLayoutVersion": "1.0.0"}))
    for layer in dict.fromkeys(whole.manifest.layers):
        with whole.open(layer.digest) as file:
            archive.addfile(_header(_place(layer.digest), os.fstat(file.fileno()).st_size), file)
    _add(archive, _place(whole.manifest.config.digest), whole.config)
    digest = manifest.digest_of(whole.data)
    _add(archive, _place(digest), whole.data)
    described: dict[str, Json] = manifest.plain(manifest.Descriptor(whole.manifest.media_type, digest, len(whole.data)))
    tagged: list[Json] = [
        {**described, "annotations": {"org.opencontainers.image.ref.name": str(name)}} for name in names if name.tag
    ]
    _add(
        archive,
        "index.json",
        manifest.as_json({"schemaVersion": 2, "mediaType": manifest.OCI_INDEX, "manifests": tagged or [described]}),
    )


def _add_uncompressed(archive: tarfile.TarFile, path: str, digest: str, diff_id: str, whole: Whole) -> None:
    """Add a layer's uncompressed archive; its size has to be known first, so it is read twice. Raises SbError."""
    with whole.open(digest) as file:
        size = os.fstat(file.fileno()).st_size
        stream = TarStream(file, size, _UNBOUNDED)
        if stream.finish() != diff_id:
            raise SbError(
                f"the blob {digest} is damaged", "its content's digest is another", "sb image rm and pull it again"
            )
        file.seek(0)
        archive.addfile(_header(path, stream.tell()), TarStream(file, size, _UNBOUNDED))  # type: ignore[arg-type]  # it can be read


def _add(archive: tarfile.TarFile, path: str, data: bytes) -> None:
    archive.addfile(_header(path, len(data)), io.BytesIO(data))


def _header(path: str, size: int) -> tarfile.TarInfo:
    """A header without a time: the same image makes the same archive.

    Its owner is this user, since skopeo unpacks OCI archives and can't give files, or directories, to another.
    """
    info = tarfile.TarInfo(path)
    info.uid, info.gid = os.geteuid(), os.getegid()
    info.size, info.mode = size, 0o644
    return info


def _place(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
