"""`sb image import`: an image of one layer, from a root file system in a tar archive or a directory."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import time
from typing import IO, TYPE_CHECKING

from rootless_sb.errors import Doing
from rootless_sb.image import decompression, manifest
from rootless_sb.image.archive import digest_of_file
from rootless_sb.image.manifest import Descriptor, Manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_sb.image.blobs import Partial
    from rootless_sb.image.decompression import Limits
    from rootless_sb.image.platform import Platform


class Rootfs:
    """A file that holds a root file system's archive, as a source of one image."""

    def __init__(self, file: IO[bytes], limits: Limits, platform: Platform) -> None:
        self._file = file
        kind = decompression.kind_of(file.read(6))
        file.seek(0)
        digest = digest_of_file(file)
        size = file.tell()
        file.seek(0)
        stream = decompression.TarStream(file, size, limits)
        self._config = _config(stream.finish(), platform)
        media_type = manifest.OCI_LAYER + (f"+{kind}" if kind in ("gzip", "zstd") else "")
        config = Descriptor(manifest.OCI_CONFIG, manifest.digest_of(self._config), len(self._config))
        layer = Descriptor(media_type, digest, size)
        self._manifest = manifest.render(Manifest(manifest.OCI_MANIFEST, config, (layer,)))
        self.digest = manifest.digest_of(self._manifest)

    async def manifest(self, wanted: str) -> tuple[bytes, str]:
        """See adding.Source."""
        assert wanted == self.digest
        return self._manifest, manifest.OCI_MANIFEST

    async def fetch(self, wanted: Descriptor, partial: Partial, told: Callable[[int], None]) -> None:
        """See adding.Source."""
        self._file.seek(0)
        partial.take(io.BytesIO(self._config) if wanted.media_type == manifest.OCI_CONFIG else self._file, told)


def archive_of(directory: str) -> IO[bytes]:
    """A tar archive of a directory, in a file without a name. This user's files become root's. Raises SbError."""
    uid, gid = os.geteuid(), os.getegid()

    def as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = 0 if info.uid == uid else info.uid
        info.gid = 0 if info.gid == gid else info.gid
        info.uname = info.gname = ""
        return info

    with Doing(f"cannot import {directory}", "read it as root, or set TMPDIR to a directory on another disk"):
        copy = tempfile.TemporaryFile()  # noqa: SIM115 (whoever asked for it closes it)
        with tarfile.open(fileobj=copy, mode="w", format=tarfile.PAX_FORMAT) as archive:
            archive.add(directory, ".", filter=as_root)
        copy.seek(0)
        return copy


def _config(diff_id: str, platform: Platform) -> bytes:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return manifest.as_json(
        {
            "created": now,
            **{name: value for name, value in platform._asdict().items() if value},
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": now, "created_by": "sb image import"}],
        }
    )
