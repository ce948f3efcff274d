"""The running sandboxes that a command is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless_sb import leftovers
from rootless_sb.cli import lookup
from rootless_sb.errors import SbError
from rootless_sb.state import RUNNING

if TYPE_CHECKING:
    from rootless_sb.state import State


def states(called: list[str]) -> list[State]:
    """The states of the sandboxes that are called so, or of all that run. Raises SbError for one that doesn't run."""
    where = lookup.places()
    if not called:
        found = (each.state for each in leftovers.everything(where.all(), where.uid) if each.state is not None)
        return sorted((each for each in found if each.status == RUNNING), key=lambda each: each.identifier)
    named = [lookup.find(name, where).state for name in called]
    for name, state in zip(called, named, strict=True):
        if state.status != RUNNING:
            raise SbError(f"the sandbox {name} isn't running", state.status, f"sb start {name}")
    return named
