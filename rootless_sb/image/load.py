"""`sb image load` and `import`: from a file into the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.image import adding, archive, collection, groups

if TYPE_CHECKING:
    from rootless_sb.image.adding import Progress, Source
    from rootless_sb.image.archive import Files
    from rootless_sb.image.platform import Platform
    from rootless_sb.image.record import Image
    from rootless_sb.image.reference import Reference
    from rootless_sb.image.surroundings import Surroundings
    from rootless_sb.image.workers import Workers


class Loaded(NamedTuple):
    """An image that was brought in, and its names."""

    image: Image
    names: tuple[Reference, ...]


def load(files: Files, platform: Platform, where: Surroundings, workers: Workers, progress: Progress) -> list[Loaded]:
    """Bring in all images of an archive, under the names they have there. Raises SbError."""
    source = archive.source(files)
    return [add(source, each.wanted, each.names, platform, where, workers, progress) for each in source.images()]


def add(
    source: Source,
    wanted: str,
    names: tuple[Reference, ...],
    platform: Platform,
    where: Surroundings,
    workers: Workers,
    progress: Progress,
) -> Loaded:
    """Bring in one image of a source, and give it its names. Raises SbError."""
    means = adding.Means(where.own, where.cache, workers, progress)

    async def bring() -> Image:
        return await adding.add(source, wanted, platform, means)

    with collection.adding(where.own):
        image = groups.run(bring)
        for name in names:
            where.own.name(name, image.identifier)
    return Loaded(image, names)
