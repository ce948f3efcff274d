"""How the listings of one directory in several layers become one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fuse_overlay import whiteout

if TYPE_CHECKING:
    from collections.abc import Iterable


class Scan(NamedTuple):
    """A directory's entries in one layer.

    `names`: all of them. `whiteouts`: those among them that are character devices 0:0. `layer`: whether marks count.
    """

    names: list[bytes]
    whiteouts: set[bytes]
    layer: bool


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
        marked: set[bytes] = set()
        for name in scan.names:
            if whiteout.is_mark(name):
                hidden = whiteout.hidden_by(name)
                if hidden is not None:
                    marked.add(hidden)
            elif name not in gone and name not in scan.whiteouts:
                merged.setdefault(name, position)
        gone |= marked
        gone |= scan.whiteouts
    return merged
