"""Which directories make no overlay: those in which it would meet itself, or change its own lower layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuse_overlay.inodes import Key


class Place(NamedTuple):
    """A directory that was named: by which option, as what, and the (st_dev, st_ino) of it and of all above it."""

    option: str
    path: str
    lineage: tuple[Key, ...]

    def __str__(self) -> str:
        return f"{self.option} {self.path}"


# Directories of the first kind and of the second must lie apart. Overlapping lower layers do no harm.
_APART = (("upperdir", "lowerdir"), ("workdir", "lowerdir"), ("workdir", "upperdir"))

# In none of these may the mountpoint lie: the server would wait for an answer of its own. On one itself it may be,
# since that directory is held open by then.
_SERVED = ("lowerdir", "upperdir", "workdir")


def conflict(places: Iterable[Place]) -> str | None:
    """What is wrong with these directories, in one line; None if nothing is."""
    known = list(places)
    for first, second in _APART:
        for one in (place for place in known if place.option == first):
            for other in (place for place in known if place.option == second):
                if one.lineage[0] == other.lineage[0]:
                    return f"{one} is also {other}"
                if _lies_in(one, other):
                    return f"{one} lies in {other}"
                if _lies_in(other, one):
                    return f"{other} lies in {one}"
    for mountpoint in (place for place in known if place.option == "mountpoint"):
        for other in (place for place in known if place.option in _SERVED):
            if _lies_in(mountpoint, other):
                return f"{mountpoint} lies in {other}"
    return None


def _lies_in(inner: Place, outer: Place) -> bool:
    return outer.lineage[0] in inner.lineage[1:]
