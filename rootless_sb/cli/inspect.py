"""`sb inspect`: all that is known of sandboxes, as JSON."""

from __future__ import annotations

import json
import sys

from rootless_sb.cli import lookup, parsing
from rootless_sb.ui import tables


def main(arguments: list[str]) -> int:
    """Print what is known of sandboxes. Raises SbError."""
    options = parsing.Parser("inspect", "What is known of sandboxes, as JSON.", "sb inspect build")
    options.add_argument("name", metavar="NAME", nargs="+", help="a sandbox's name or id")
    options.add_argument("--json", action="store_true", help="print JSON (it always is)")
    parsed = options.parse_strictly(arguments)
    where = lookup.places()
    known = [lookup.find(name, where) for name in parsed.name]
    described = [tables.details(each.state, each.directory) for each in known]
    sys.stdout.write(json.dumps({"schema": 1, "sandboxes": described}, indent=2) + "\n")
    return 0
