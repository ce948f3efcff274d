"""`sb prune`: remove every sandbox that has ended."""

from __future__ import annotations

import sys

from rootless_sb import leftovers, names, removal
from rootless_sb.cli import asking, lookup, parsing
from rootless_sb.errors import SbError
from rootless_sb.state import EXITED, LOST
from rootless_sb.ui import messages


def main(arguments: list[str]) -> int:
    """Remove what has ended; the ids go to stdout, what was freed to stderr. Raises SbError."""
    options = parsing.Parser("prune", "Remove all sandboxes that have ended.", "sb prune -f")
    options.add_argument("-f", "--force", action="store_true", help="don't ask")
    parsed = options.parse_strictly(arguments)
    where = lookup.places()
    states = (found for found in leftovers.everything(where.all(), where.uid) if found.state is not None)
    ended = [(found, found.state) for found in states if found.state and found.state.status in (EXITED, LOST)]
    if ended and not parsed.force and not asking.agreed(f"{len(ended)} sandboxes and what they changed", "sb prune -f"):
        return 1
    freed = 0
    for found, state in ended:
        try:
            freed += removal.remove(found.directory, state.identifier, where.store, where.uid).bytes
        except SbError as error:  # somebody has just started or removed it
            messages.warn(str(error))
            continue
        sys.stdout.write(f"{state.identifier}\n")
    leftovers.sweep(where.all(), where.uid)
    names.drop_dangling(where.store)
    _give_volumes_back(where.uid)
    messages.say(f"{messages.human_size(freed)} freed")
    return 0


def _give_volumes_back(uid: int) -> None:
    """Remove what killed sandboxes have left in volumes, also in directories of subordinate ids; say if some stays."""
    left = leftovers.sweep_placeholders(uid)
    if not left:
        return
    try:
        removal.become_master()
    except SbError as error:
        messages.warn(str(error))
    if left := leftovers.sweep_placeholders(uid):
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        messages.warn(f"what kept a name in a volume from being made is still there: {left[0]}{more}")
