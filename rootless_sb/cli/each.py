"""What commands that take several sandboxes have in common: one that fails is said, and the others go on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rootless_sb.errors import SbError
from rootless_sb.ui import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def for_each(names: Iterable[str], act: Callable[[str], None]) -> int:
    """Do `act` for each name; those done go to stdout. Returns the last failure's exit status, 0 without one."""
    status = 0
    for name in names:
        try:
            act(name)
        except SbError as error:
            messages.report(error)
            status = error.status
            continue
        sys.stdout.write(f"{name}\n")
    return status
