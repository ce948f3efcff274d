"""`sb image push`: bring an image to a registry."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rootless_sb.cli import parsing
from rootless_sb.cli.image import lookup
from rootless_sb.errors import SbError
from rootless_sb.image import reference, surroundings, whole
from rootless_sb.ui import progress

if TYPE_CHECKING:
    from rootless_sb.image.reference import Reference
    from rootless_sb.image.store import Found


def main(arguments: list[str]) -> int:
    """Push an image; its digest goes to stdout. Raises SbError."""
    description = "Bring an image to the registry that its name says, or under another name."
    options = parsing.Parser("image push", description, "sb image push mine:1 registry.example/me/mine:1")
    options.add_argument("-q", "--quiet", action="store_true", help="no progress")
    options.add_argument("name", metavar="NAME", help="an image's name or id")
    options.add_argument("destination", metavar="DESTINATION", nargs="?", help="its name there (default: the same)")
    parsed = options.parse_strictly(arguments)
    where = surroundings.look()
    found = lookup.find(parsed.name, where.stores)
    name = reference.parse(parsed.destination) if parsed.destination else _own_name(parsed.name, found)
    gathered = whole.gather(found, where.cache, quiet=parsed.quiet)
    with progress.shown(f"push {name.familiar()}", quiet=parsed.quiet) as shown:
        from rootless_sb.image import push

        sys.stdout.write(f"{push.push(gathered, name, where, shown)}\n")
    return 0


def _own_name(called: str, found: Found) -> Reference:
    """The name that an image has, which may be called by its id. Raises SbError: it has none, or several."""
    names = lookup.meant(called, found.store.names().get(found.image.identifier, []))
    if len(names) == 1:
        return names[0]
    why = f"it has several names: {', '.join(name.familiar() for name in names)}" if names else "it has no name"
    raise SbError(f"cannot push {called}", why, f"say which: sb image push {called} registry.example/name:tag")
