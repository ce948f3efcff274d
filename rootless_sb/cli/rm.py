"""`sb rm`: remove sandboxes and what they changed."""

from __future__ import annotations

import os

from rootless_sb import removal, stopping
from rootless_sb.cli import each, lookup, parsing
from rootless_sb.state import CREATED, RUNNING


def main(arguments: list[str]) -> int:
    """Remove sandboxes; each one's name goes to stdout. What can't be removed is said, and the status is 125 then."""
    options = parsing.Parser("rm", "Remove sandboxes and what they changed.", "sb rm build")
    options.add_argument("-f", "--force", action="store_true", help="also those that run; their processes are killed")
    options.add_argument("name", metavar="NAME", nargs="+", help="a sandbox's name or id")
    parsed = options.parse_strictly(arguments)
    where = lookup.places()

    def remove(name: str) -> None:
        known = lookup.look(name, where) if parsed.force else lookup.find(name, where)
        if parsed.force and (known.state is None or known.state.status in (CREATED, RUNNING)):
            stopping.stop(known.directory, name, 0.0)
        if os.path.isdir(known.directory):  # one that isn't kept goes with its end
            removal.remove(known.directory, name, where.store, where.uid)

    return each.for_each(parsed.name, remove)
