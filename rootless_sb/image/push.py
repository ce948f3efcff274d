"""`sb image push`: from the store to a registry."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import trio

from rootless_sb.image import credentials, groups, hosts, manifest, registry

if TYPE_CHECKING:
    from rootless_sb.image.adding import Progress
    from rootless_sb.image.manifest import Descriptor
    from rootless_sb.image.reference import Reference
    from rootless_sb.image.registry import Repository
    from rootless_sb.image.surroundings import Surroundings
    from rootless_sb.image.whole import Whole

_AT_ONCE = 4  # blobs sent at the same time


def push(whole: Whole, name: Reference, where: Surroundings, progress: Progress) -> str:
    """Bring an image to a registry under a name; the digest of its manifest is returned. Raises SbError."""
    settled = hosts.understand(where.documents)
    known = credentials.find(name.domain, name.path, where.environment, where.home)
    digest = manifest.digest_of(whole.data)

    async def to_host(host: str) -> str:
        async with registry.connect(name, host, settled, known, "pull,push") as repository:
            await _send_layers(repository, whole, progress)
            if not await repository.has(whole.manifest.config.digest):
                await repository.upload(whole.manifest.config, io.BytesIO(whole.config), lambda _: None)
            await repository.put_manifest(whole.data, whole.manifest.media_type, name.tag or digest)
            return digest

    async def to_registry() -> str:
        return await registry.guarded(settled.to_ask(name.domain)[-1], to_host)

    return groups.run(to_registry)


async def _send_layers(repository: Repository, whole: Whole, progress: Progress) -> None:
    sending = trio.Semaphore(_AT_ONCE)

    async def send(layer: Descriptor) -> None:
        progress.layer(layer.digest, layer.size)
        async with sending:
            was_there = await repository.has(layer.digest)
            if not was_there:
                with whole.open(layer.digest) as file:
                    await repository.upload(layer, file, lambda count: progress.fetched(layer.digest, count))
        progress.done(layer.digest, was_there=was_there)

    async with trio.open_nursery() as nursery:
        for layer in dict.fromkeys(whole.manifest.layers):
            nursery.start_soon(send, layer)
