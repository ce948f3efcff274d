"""`sb ps`: the sandboxes, as a table or as JSON."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rootless_sb import census, leftovers
from rootless_sb.cli import lookup, parsing
from rootless_sb.state import RUNNING
from rootless_sb.ui import messages, tables

if TYPE_CHECKING:
    from rootless_sb.state import State


def main(arguments: list[str]) -> int:
    """List sandboxes. Raises SbError."""
    options = parsing.Parser("ps", "List the sandboxes that run; with -a also those that have ended.", "sb ps -a")
    options.add_argument("-a", "--all", action="store_true", help="also those that don't run")
    options.add_argument("--tree", action="store_true", help="with their processes: pids outside and inside")
    options.add_argument("-q", "--quiet", action="store_true", help="their ids only")
    options.add_argument("--json", action="store_true", help="print JSON")
    parsed = options.parse_strictly(arguments)
    known = _states(everything=parsed.all)
    trees = census.below([each.supervisor for each in known if each.supervisor]) if parsed.tree else {}
    if parsed.json:
        import json

        document = {"schema": 1, "sandboxes": [_facts(each, trees) for each in known]}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    elif parsed.tree:
        sys.stdout.write("\n".join(tables.tree(each, trees.get(each.supervisor, [])) for each in known))
    elif parsed.quiet:
        sys.stdout.write("".join(f"{each.identifier}\n" for each in known))
    else:
        sys.stdout.write(tables.sandboxes(known, int(time.time())))
    return 0


def _facts(known: State, trees: dict[int, list[census.Process]]) -> dict[str, object]:
    """What JSON says of a sandbox, with its processes if they were asked for."""
    facts = tables.facts(known)
    if known.supervisor in trees:
        facts["processes"] = tables.processes(trees[known.supervisor])
    return facts


def _states(*, everything: bool) -> list[State]:
    """The states to list, the newest first."""
    where = lookup.places()
    states = []
    for found in leftovers.everything(where.all(), where.uid):
        if found.state is None:
            messages.warn(f"{found.directory}: {found.why}")
        elif everything or found.state.status == RUNNING:
            states.append(found.state)
    return sorted(states, key=lambda each: (-each.created, each.identifier))
