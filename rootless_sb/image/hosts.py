"""What config.toml says of registries and stores. Pure.

[registries]
insecure = ["registry.lan:5000"]         # plain http, or a certificate that nobody vouches for
mirrors = { "docker.io" = ["mirror.lan:5000"] }

[store]
read_only = ["/opt/sb"]                  # stores of others, as SB_DATA_HOME would name them
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb import settings
from rootless_sb.errors import SbError, did_you_mean
from rootless_sb.image import reference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless_sb.settings import Document


class Hosts(NamedTuple):
    """How to reach registries: those that may do without a good certificate, and who else has whose images."""

    insecure: frozenset[str] = frozenset()
    mirrors: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def may_be_insecure(self, domain: str) -> bool:
        """Whether plain http will do for a registry: a configured one, or one of this machine's own."""
        return domain in self.insecure or reference.is_loopback(domain)

    def to_ask(self, domain: str) -> tuple[str, ...]:
        """The hosts to ask for a registry's images, in their order."""
        real = "registry-1.docker.io" if domain == reference.DEFAULT_DOMAIN else domain
        return (*dict(self.mirrors).get(domain, ()), real)


def understand(documents: Iterable[Document]) -> Hosts:
    """What the files say, the last one's mirrors replacing the earlier ones' of the same registry. Raises SbError."""
    insecure: set[str] = set()
    mirrors: dict[str, tuple[str, ...]] = {}
    for document in documents:
        table = document.table("registries")
        _check_names(table, ("insecure", "mirrors"), f"{document.path}: [registries]")
        insecure |= set(_texts(table.get("insecure", []), f"{document.path}: insecure"))
        where = f"{document.path}: mirrors"
        for domain, hosts in settings.as_table(table.get("mirrors", {}), where).items():
            mirrors[domain] = _texts(hosts, where)
    return Hosts(frozenset(insecure), tuple(mirrors.items()))


def read_only_stores(documents: Iterable[Document]) -> tuple[str, ...]:
    """The directories of stores that are only read, the user's own before the site's. Raises SbError."""
    found: tuple[str, ...] = ()
    for document in documents:
        table = document.table("store")
        _check_names(table, ("read_only",), f"{document.path}: [store]")
        places = _texts(table.get("read_only", []), f"{document.path}: read_only")
        for place in places:
            if not place.startswith("/"):
                raise SbError(f"{document.path}: read_only", f"{place} is not an absolute path", "a path like /opt/sb")
        found = (*places, *found)
    return tuple(dict.fromkeys(found))


def _check_names(table: object, known: tuple[str, ...], where: str) -> None:
    for name in settings.as_table(table, where):
        if name not in known:
            raise SbError(f"{where}: unknown name {name}", hint=did_you_mean(name, known))


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise SbError(where, "not a list of texts", 'a list like ["one", "two"]')
    return tuple(value)
