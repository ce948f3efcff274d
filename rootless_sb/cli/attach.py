"""`sb attach`: back to a sandbox in the background."""

from __future__ import annotations

import os

from rootless_sb import attaching, leftovers
from rootless_sb.cli import lookup, parsing
from rootless_sb.errors import Doing, SbError
from rootless_sb.state import RUNNING
from rootless_sb.ui import messages


def main(arguments: list[str]) -> int:
    """Show what the command of a sandbox writes and type into its terminal; returns its exit status. Raises SbError."""
    description = "Back to a sandbox in the background; ctrl-p ctrl-q leaves it there."
    options = parsing.Parser("attach", description, "sb attach build")
    options.add_argument("name", metavar="NAME", help="the sandbox's name or id")
    parsed = options.parse_strictly(arguments)
    known = lookup.find(parsed.name, lookup.places())
    if known.state.status != RUNNING:
        raise SbError(f"the sandbox {parsed.name} isn't running", known.state.status, f"sb start {parsed.name}")
    with Doing(f"cannot reach {parsed.name}"):
        own = os.open(known.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if attaching.attach(own):
        messages.say(f"detached; sb attach {parsed.name} goes back")
        return 0
    ended = leftovers.look(known.directory)
    if ended is None or ended.state is None or ended.state.exit_code is None:
        return 0  # it wasn't kept: how it ended isn't known any more
    return ended.state.exit_code
