"""How the listings of one directory in several layers become one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fuse_overlay import whiteout

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
        if not scan.layer:
            for name in scan.names:
                if name not in gone:
                    merged.setdefault(name, position)
            continue
        dots = scan.mark_names
        for name in scan.names:
            if name not in gone and name not in scan.whiteouts and not (dots and whiteout.is_mark(name)):
                merged.setdefault(name, position)
        gone |= taken_away(scan)
    return merged


def taken_away(scan: Scan) -> set[bytes]:
    """The names that a layer takes away from those below it."""
    if not scan.layer:
        return set()
    if not scan.mark_names:
        return set(scan.whiteouts)
    marked = (whiteout.hidden_by(name) for name in scan.names if whiteout.is_mark(name))
    return scan.whiteouts.union(name for name in marked if name is not None)
