"""Removing a sandbox that was kept: its layer, its name, everything."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless_sb import engines, names, sandboxes, spec, state
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import files

if TYPE_CHECKING:
    from rootless_sb.kernel.trees import Removed


def remove(directory: str, called: str, store: str, uid: int, *, force: bool = False) -> Removed:
    """Remove the sandbox in `directory`, which people call `called`. Raises SbError: it runs, say.

    An apply that was cut short is undone or finished first; with `force` that may fail.
    """
    with Doing(f"cannot remove {called}"):
        sandbox = sandboxes.take(directory, sandboxes.PATIENCE)
        if sandbox is None:
            raise SbError(f"cannot remove {called}", sandboxes.holder(directory), f"sb rm -f {called}")
        try:
            _reach(sandbox.own)
            _settle(sandbox.own)
        except SbError as error:
            if not force:
                sandbox.close()
                raise SbError(error.what, error.why, f"sb rm -f {called} removes it all the same") from error
        removed = sandboxes.remove(sandbox, uid)
    names.drop_dangling(store)
    return removed


def _reach(own: int) -> None:
    """Get power over files of subordinate ids, if the sandbox's layer can hold some. Raises OSError, SbError."""
    try:
        wanted = state.decode(files.read(own, "state")).wanted
    except state.StateError:  # another version's
        return
    if wanted.engine == engines.KERNEL:
        become_master(wanted.userns)


def become_master(userns: str = spec.ROOT) -> None:
    """Get power over files of the subordinate ids that a sandbox with this `--userns` has had. Raises SbError."""
    from rootless_sb import host, mapping, maps

    mapping.enter(maps.id_maps(userns, host.probe()))


def _settle(own: int) -> None:
    """Undo or finish an apply that was cut short, if one was. Raises SbError."""
    if any(name.startswith("apply.") for name in os.listdir(own)):
        from rootless_sb.review import applying

        applying.settle(own)
