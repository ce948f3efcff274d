"""`sb stop`: end running sandboxes."""

from __future__ import annotations

from rootless_sb import ending, stopping
from rootless_sb.cli import each, lookup, parsing
from rootless_sb.state import CREATED, RUNNING


def main(arguments: list[str]) -> int:
    """End sandboxes; each one's name goes to stdout. What can't be ended is said, and the status is 125 then."""
    options = parsing.Parser("stop", "End running sandboxes: SIGTERM for the command, then SIGKILL.", "sb stop build")
    options.add_argument("-t", "--time", type=float, default=ending.GRACE, metavar="S", help="until SIGKILL (10)")
    options.add_argument("name", metavar="NAME", nargs="+", help="a sandbox's name or id")
    parsed = options.parse_strictly(arguments)

    def stop(name: str) -> None:
        known = lookup.find(name, lookup.places())
        if known.state.status in (CREATED, RUNNING):
            stopping.stop(known.directory, name, parsed.time, known.state.stop_signal)

    return each.for_each(parsed.name, stop)
