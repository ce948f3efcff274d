"""How the listings of one directory in several layers become one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_overlay import whiteout
from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Scan(NamedTuple):
    """A directory's entries in one layer.

    `names`: all of them. `whiteouts`: those among them that are character devices 0:0. `layer`: whether marks count;
    `mark_names`: whether `.wh.` files are some.
    """

    names: list[bytes]
    whiteouts: set[bytes]
    layer: bool
    mark_names: bool


def merge(scans: Iterable[Scan]) -> dict[bytes, int]:
    """The merged listing: each name with the number, in `scans`, of the topmost layer that has it.

    A `.wh.` mark concerns only the layers below its own: an image layer may hold both `x` and `.wh.x`.
    """
    merged: dict[bytes, int] = {}
    gone: set[bytes] = set()
    for position, scan in enumerate(scans):
        marks = _marks(scan)
        not_shown = gone.union(marks, scan.whiteouts if scan.layer else ())
        if merged or not_shown:
            for name in scan.names:
                if name not in not_shown:
                    merged.setdefault(name, position)
        else:
            merged = dict.fromkeys(scan.names, position)  # most directories are in one layer, without any mark
        gone |= _taken_away(scan, marks)
    return merged


def taken_away(scan: Scan) -> set[bytes]:
    """The names that a layer takes away from those below it."""
    return _taken_away(scan, _marks(scan))


def _marks(scan: Scan) -> list[bytes]:
    prefix = whiteout.PREFIX
    return [name for name in scan.names if name.startswith(prefix)] if scan.layer and scan.mark_names else []


def _taken_away(scan: Scan, marks: list[bytes]) -> set[bytes]:
    if not scan.layer:
        return set()
    hidden = map(whiteout.hidden_by, marks)
    return scan.whiteouts.union(name for name in hidden if name is not None)
