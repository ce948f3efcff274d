"""Removing a sandbox that was kept: its layer, its name, everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless_sb import names, sandboxes
from rootless_sb.errors import Doing, SbError

if TYPE_CHECKING:
    from rootless_sb.kernel.trees import Removed


def remove(directory: str, called: str, store: str, uid: int) -> Removed:
    """Remove the sandbox in `directory`, which people call `called`. Raises SbError: it runs, say."""
    with Doing(f"cannot remove {called}"):
        sandbox = sandboxes.take(directory, sandboxes.PATIENCE)
        if sandbox is None:
            raise SbError(f"cannot remove {called}", sandboxes.holder(directory), f"sb rm -f {called}")
        removed = sandboxes.remove(sandbox, uid)
    names.drop_dangling(store)
    return removed
