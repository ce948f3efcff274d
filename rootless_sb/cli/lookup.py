"""From what a person calls a sandbox to the sandbox: its name, its id, or the first digits of its id."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb import leftovers, names, paths, settings
from rootless_sb.errors import SbError, did_you_mean

if TYPE_CHECKING:
    from rootless_sb.state import State


class Known(NamedTuple):
    """A sandbox that was found: where it lies, and its state."""

    directory: str
    state: State


class Places(NamedTuple):
    """Where this user's sandboxes lie: those that are thrown away, and the store of those that are kept."""

    shared: tuple[str, ...]
    store: str
    uid: int

    def all(self) -> tuple[str, ...]:
        """All of them, as `leftovers` takes them: the store last."""
        return (*self.shared, self.store)


def places() -> Places:
    """The places, from this process's environment."""
    environment = dict(os.environ)
    store = paths.store(environment, settings.home(environment))
    return Places(paths.layer_places(environment), store, os.geteuid())


def find(called: str, where: Places) -> Known:
    """The sandbox that is called so. Raises SbError: for an unknown name with the nearest one as the hint."""
    found = look(called, where)
    if found.state is None:
        raise SbError(f"cannot read the sandbox {called}", found.why, f"sb rm -f {called}")
    return Known(found.directory, found.state)


def look(called: str, where: Places) -> leftovers.Found:
    """As `find`, but one whose state can't be read will do."""
    directory = names.directory(where.store, called) if called and "/" not in called else None
    if directory is None:
        directory = _by_id(called, where)
    found = leftovers.look(directory) if directory is not None else None
    if found is None:
        raise SbError(f"there is no sandbox {called}", hint=_nearest(called, where))
    return found


def _by_id(called: str, where: Places) -> str | None:
    """The directory of the one sandbox whose id begins so. Raises SbError if there are more."""
    known = leftovers.directories(where.all(), where.uid)
    matching = [name for name in known if called and name.startswith(called) and not name.startswith(".")]
    if len(matching) > 1:
        raise SbError(f"more than one sandbox's id begins with {called}", hint=", ".join(sorted(matching)))
    return known[matching[0]] if matching else None


def _nearest(called: str, where: Places) -> str:
    known = [found.state for found in leftovers.everything(where.all(), where.uid) if found.state is not None]
    near = did_you_mean(called, [each.name or each.identifier for each in known])
    return f"{near} (sb ps -a lists all)" if near else "sb ps -a lists all"
