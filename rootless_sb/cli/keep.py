"""`sb keep`: a running sandbox isn't thrown away at its end after all."""

from __future__ import annotations

import os
import sys

from rootless_sb import names, sandboxes
from rootless_sb.cli import lookup, parsing
from rootless_sb.errors import Doing, SbError


def main(arguments: list[str]) -> int:
    """Have a sandbox kept, under a name if one is given; its id goes to stdout. Raises SbError."""
    options = parsing.Parser("keep", "Keep a running sandbox and what it changes.", "sb keep 0123456789ab build")
    options.add_argument("id", metavar="ID", help="the sandbox's id (sb ps) or name")
    options.add_argument("name", metavar="NAME", nargs="?", default="", help="the name to keep it by")
    parsed = options.parse_strictly(arguments)
    where = lookup.places()
    known = lookup.find(parsed.id, where)
    if parsed.name:
        names.check(parsed.name)
        with names.Names(where.store) as held:
            held.require_free(parsed.name)
            held.point(parsed.name, known.directory)
            _keep(known, parsed.name)
            if known.state.name:
                held.release(known.state.name)
    else:
        _keep(known, "")
    sys.stdout.write(f"{known.state.identifier}\n")
    return 0


def _keep(known: lookup.Known, name: str) -> None:
    with Doing(f"cannot keep {known.state.identifier}"):
        own = os.open(known.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        kept = sandboxes.keep(own, name)
        os.close(own)
    if kept is None:
        raise SbError(f"cannot keep {known.state.identifier}", "it has ended, and is being removed")
