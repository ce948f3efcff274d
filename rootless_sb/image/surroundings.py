"""Where a user's images, blobs, credentials and settings are: what the commands of `sb image` begin with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb import paths, settings
from rootless_sb.image import hosts
from rootless_sb.image.store import Store

if TYPE_CHECKING:
    from rootless_sb.image.blobs import Cache
    from rootless_sb.settings import Document


class Surroundings(NamedTuple):
    """`stores`: the user's own first, then those that are only read. `documents`: the configuration files."""

    stores: tuple[Store, ...]
    documents: tuple[Document, ...]
    environment: dict[str, str]
    home: str

    @property
    def cache(self) -> Cache:
        """Where blobs are kept; a run doesn't ask for it."""
        from rootless_sb.image.blobs import Cache

        return Cache(paths.blobs(self.environment, self.home))

    @property
    def own(self) -> Store:
        """The user's own store."""
        return self.stores[0]


def look() -> Surroundings:
    """What this process's environment and the configuration files say. Raises SbError."""
    environment = dict(os.environ)
    home = settings.home(environment)
    documents = settings.load(environment, home)
    places = (paths.data(environment, home), *hosts.read_only_stores(documents))
    return Surroundings(tuple(map(Store, places)), documents, environment, home)
