"""Each change with what speaks against bringing it to the host."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.review import conflicts, obstacles, risks, sites, subtrees, traces
from rootless_sb.review.changes import TYPE, directories_above, is_new_directory
from rootless_sb.review.layer import item_of
from rootless_sb.review.obstacles import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fuse_overlay.origin import Origin
    from rootless_sb.review.actions import Stamp
    from rootless_sb.review.changes import Change, Item
    from rootless_sb.review.layer import LayerView
    from rootless_sb.review.owners import Identity


class Verdict(NamedTuple):
    """What speaks against a change, in words, each empty if nothing does.

    `conflict`: what the host has done meanwhile. `risk`: why it acts by itself. `obstacle`: why it can't be made.
    `hidden`: what of the host's it would destroy that the sandbox couldn't see. `attributes`: the extended attributes
    that the sandbox sees of the file. `contents`: what a directory held that goes, when it was looked at (`stamps`).
    """

    change: Change
    conflict: str
    risk: str
    obstacle: str
    hidden: str
    attributes: dict[bytes, bytes]
    contents: Stamp | None = None


def assess(
    view: LayerView, changes: Iterable[Change], who: Identity, applied: Mapping[bytes, Origin], created: int
) -> list[Verdict]:
    """Judge changes. `applied`: what has been brought to the host before; `created`: when the sandbox was made, in
    nanoseconds since 1970. Raises OSError.
    """
    listed = list(changes)
    new = {each.path for each in listed if is_new_directory(each)}
    places: dict[bytes, Place] = {}
    verdicts = []
    for change in listed:
        above = change.path.rpartition(b"/")[0]
        place = None
        if not any(path in new for path in directories_above(change.path)):
            place = places.get(above) or places.setdefault(above, _place(view, above, who))
        below = subtrees.Contents(0)
        if goes_whole(change):
            below = subtrees.contents(view, change.path, who)
        trace = traces.trace(view, change, applied, created, below.newest)
        attributes = view.xattrs(change)
        obstacle = obstacles.obstacle(change, who, place, attributes) or below.obstacle
        hidden = below.hidden
        if change.before is None and place is not None and _is_there(view, change.path):
            hidden = "something is there that is hidden from the sandbox"
        if change.path in view.replaced:
            hidden = "the sandbox has seen one that sb made for it: you can't read the host's"
        conflict, risk = conflicts.conflict(change, trace), risks.risk(change)
        verdicts.append(Verdict(change, conflict, risk, obstacle, hidden, attributes, below.stamp))
    return verdicts


def goes_whole(change: Change) -> bool:
    """Whether a directory of the host is removed, or replaced by something else."""
    before = change.before
    return before is not None and before.kind == stat.S_IFDIR and (change.after is None or TYPE in change.aspects)


def _place(view: LayerView, path: bytes, who: Identity) -> Place:
    """The host's directory at a path. Raises OSError."""
    node = view.directory_at(view.lower, path)
    item: Item = item_of(view.lower, view.lower.attributes(node))
    directory, name = view.lower.place(node)
    writable = os.access(name, os.W_OK | os.X_OK, dir_fd=directory, effective_ids=True, follow_symlinks=False)
    st = item.st
    if not writable and who.owns(st.st_uid):
        writable = not os.statvfs(f"/proc/self/fd/{directory}").f_flag & os.ST_RDONLY
    return Place(writable, st.st_uid, bool(st.st_mode & stat.S_ISVTX), item)


def _is_there(view: LayerView, path: bytes) -> bool:
    """Whether the host has something at a path, be it hidden from the sandbox."""
    above, _, name = path.rpartition(b"/")
    return sites.key_of(view.descriptor_of(view.lower, above), name) is not None
