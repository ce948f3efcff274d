"""OCI layouts for the tests: images of layers that were written header by header."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

from rootless_sb.image import manifest, platform
from rootless_sb.image.manifest import Descriptor, Manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rootless_sb.image.manifest import Json


class Layout:
    """An OCI layout in a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: list[Json] = []
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, data: bytes, media_type: str) -> Descriptor:
        """Add a blob."""
        digest = manifest.digest_of(data)
        (self.path / "blobs/sha256" / digest.partition(":")[2]).write_bytes(data)
        return Descriptor(media_type, digest, len(data))

    def image(self, layers: Sequence[bytes], name: str = "", on: str = "", **config: Json) -> Descriptor:
        """Add an image of these uncompressed layers; `on`: its platform; `config`: values like Cmd. Its manifest."""
        where = platform.parse(on) if on else platform.own()
        document: dict[str, Json] = {
            **{key: value for key, value in where._asdict().items() if value},
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [manifest.digest_of(each) for each in layers]},
        }
        blobs = [self.blob(gzip.compress(each, 1, mtime=0), f"{manifest.OCI_LAYER}+gzip") for each in layers]
        described = self.blob(manifest.as_json(document), manifest.OCI_CONFIG)
        made = self.blob(
            manifest.render(Manifest(manifest.OCI_MANIFEST, described, tuple(blobs))), manifest.OCI_MANIFEST
        )
        if name:
            self.list(made, name)
        return made

    def index(self, images: dict[str, Descriptor], name: str) -> Descriptor:
        """Add an index of images by platform, under a name."""
        entries: list[Json] = [
            {**manifest.plain(image), "platform": {k: v for k, v in platform.parse(on)._asdict().items() if v}}
            for on, image in images.items()
        ]
        document: Json = {"schemaVersion": 2, "mediaType": manifest.OCI_INDEX, "manifests": entries}
        made = self.blob(manifest.as_json(document), manifest.OCI_INDEX)
        self.list(made, name)
        return made

    def list(self, described: Descriptor, name: str) -> None:
        """Have the layout's own index name something."""
        annotations: Json = {"org.opencontainers.image.ref.name": name}
        self._entries.append({**manifest.plain(described), "annotations": annotations})
        index = {"schemaVersion": 2, "mediaType": manifest.OCI_INDEX, "manifests": self._entries}
        (self.path / "index.json").write_text(json.dumps(index))
