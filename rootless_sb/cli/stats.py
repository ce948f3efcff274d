"""`sb stats`: what running sandboxes use."""

from __future__ import annotations

import sys
import time

from rootless_sb import census
from rootless_sb.cli import parsing, running
from rootless_sb.ui import tables
from rootless_sb.ui.messages import human_size

_INTERVAL = 0.5  # seconds over which the use of the processor is measured


def main(arguments: list[str]) -> int:
    """Say what the named sandboxes use, or all that run, sb's own processes for them included. Raises SbError."""
    options = parsing.Parser("stats", "What running sandboxes use of processor and memory.", "sb stats build")
    options.add_argument("--json", action="store_true", help="print JSON")
    options.add_argument("name", metavar="NAME", nargs="*", help="a sandbox's name or id (default: all that run)")
    parsed = options.parse_strictly(arguments)
    known = running.states(parsed.name)
    roots = [each.supervisor for each in known]
    before = {root: sum(each.seconds for each in found) for root, found in census.below(roots).items()}
    time.sleep(_INTERVAL)
    after = census.below(roots)
    used: list[dict[str, object]] = []
    rows = [("ID", "NAME", "CPU", "MEMORY", "PROCESSES")]
    for each in known:
        found = after[each.supervisor]
        percent = max(0.0, sum(process.seconds for process in found) - before[each.supervisor]) / _INTERVAL * 100
        memory = sum(process.memory for process in found)
        inside = sum(1 for process in found if process.inside)
        used.append({"id": each.identifier, "cpu_percent": round(percent, 1), "memory": memory, "processes": inside})
        rows.append((each.identifier, each.name, f"{percent:.0f}%", human_size(memory), str(inside)))
    if parsed.json:
        import json

        sys.stdout.write(json.dumps({"schema": 1, "sandboxes": used}, indent=2) + "\n")
    else:
        sys.stdout.write(tables.columns(rows))
    return 0
