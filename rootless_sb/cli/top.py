"""`sb top`: the processes of running sandboxes."""

from __future__ import annotations

import sys

from rootless_sb import census
from rootless_sb.cli import parsing, running
from rootless_sb.ui import tables


def main(arguments: list[str]) -> int:
    """List the processes of the named sandboxes, or of all that run. Raises SbError."""
    options = parsing.Parser("top", "The processes of running sandboxes, sb's own left out.", "sb top build")
    options.add_argument("--json", action="store_true", help="print JSON")
    options.add_argument("name", metavar="NAME", nargs="*", help="a sandbox's name or id (default: all that run)")
    parsed = options.parse_strictly(arguments)
    known = running.states(parsed.name)
    trees = census.below([each.pid for each in known])
    if parsed.json:
        import json

        listed = [{"id": each.identifier, "processes": tables.processes(trees[each.pid])} for each in known]
        sys.stdout.write(json.dumps({"schema": 1, "sandboxes": listed}, indent=2) + "\n")
    else:
        sys.stdout.write(tables.top([process for each in known for process in trees[each.pid]]))
    return 0
