"""`sb image pull`: from a registry into the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless_sb.errors import SbError
from rootless_sb.image import adding, collection, credentials, groups, hosts, registry
from rootless_sb.ui import messages

if TYPE_CHECKING:
    from rootless_sb.image.adding import Progress
    from rootless_sb.image.platform import Platform
    from rootless_sb.image.record import Image
    from rootless_sb.image.reference import Reference
    from rootless_sb.image.surroundings import Surroundings
    from rootless_sb.image.workers import Workers


def pull(name: Reference, platform: Platform, where: Surroundings, workers: Workers, progress: Progress) -> Image:
    """Bring an image in and give it its name. Raises SbError; the store is as before then."""
    settled = hosts.understand(where.documents)
    known = credentials.find(name.domain, name.path, where.environment, where.home)
    means = adding.Means(where.own, where.cache, workers, progress)

    async def from_host(host: str) -> Image:
        own = known if host == settled.to_ask(name.domain)[-1] else None  # a mirror is somebody else
        async with registry.connect(name, host, settled, own, "pull") as repository:
            return await adding.add(repository, name.wanted(), platform, means)

    async def from_any() -> Image:
        *mirrors, last = settled.to_ask(name.domain)
        for host in mirrors:
            try:
                return await registry.guarded(host, from_host)
            except SbError as error:
                messages.warn(f"the mirror {host}: {error}")
        return await registry.guarded(last, from_host)

    with collection.adding(where.own):
        image = groups.run(from_any)
        where.own.name(name._replace(tag="") if name.digest else name, image.identifier)
    return image
