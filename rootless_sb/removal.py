"""Removing a sandbox that was kept: its layer, its name, everything."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless_sb import names, sandboxes
from rootless_sb.errors import Doing, SbError

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
            _settle(sandbox.own)
        except SbError as error:
            if not force:
                sandbox.close()
                raise SbError(error.what, error.why, f"sb rm -f {called} removes it all the same") from error
        removed = sandboxes.remove(sandbox, uid)
    names.drop_dangling(store)
    return removed


def _settle(own: int) -> None:
    """Undo or finish an apply that was cut short, if one was. Raises SbError."""
    if any(name.startswith("apply.") for name in os.listdir(own)):
        from rootless_sb.review import applying

        applying.settle(own)
