"""What of the changes only root could bring to the host. Pure."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from fuse_overlay import xattrs
from fuse_overlay.tuples import NamedTuple
from rootless_sb.review.owners import inherits_group, wanted_ids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless_sb.review.changes import Change, Item
    from rootless_sb.review.owners import Identity


class Place(NamedTuple):
    """A directory of the host as whoever applies finds it. `item`: as the sandbox sees it; `uid` is the host's.

    `writable`: files can be made and removed in it, if need be after its owner has given himself the right to.
    """

    writable: bool
    uid: int
    sticky: bool
    item: Item | None = None


def obstacle(change: Change, who: Identity, place: Place | None, attributes: Mapping[bytes, bytes]) -> str:
    """Why only root could make a change, in words; empty if whoever applies can.

    `place`: the host's directory in which it is made; None: it is made in a new one. `attributes`: the extended
    attributes that the sandbox has given the file.
    """
    if who.uid == 0:
        return ""
    before, after = change.before, change.after
    if place is not None and not place.writable:
        return "its file system is read-only" if who.owns(place.uid) else f"its directory is {_user(place.uid)}'s"
    is_anothers = before is not None and not who.owns(before.st.st_uid)
    in_anothers = place is not None and place.sticky and not who.owns(place.uid)
    if before is not None and is_anothers and (after is not None or in_anothers):
        return f"it belongs to {_user(before.st.st_uid)}"
    if after is None:
        return ""
    if after.kind in (stat.S_IFCHR, stat.S_IFBLK):
        return "only root makes device nodes"
    if xattrs.CAPABILITY in attributes:
        return "only root gives capabilities to files"
    if any(xattrs.is_security(name) for name in attributes):
        return "only root sets attributes of security modules"
    uid, gid = wanted_ids(change, who)
    if not who.owns(uid):
        return f"it is to belong to {_user(uid)}"
    inherited = before is None and place is not None and inherits_group(after, place.item)
    if not who.is_in(gid) and not inherited:
        return f"it is to belong to group {gid}"
    return ""


def _user(uid: int) -> str:
    return "root" if uid == 0 else f"user {uid}"
