"""Whether the host has changed a file since the sandbox first saw it. Pure.

A file that was copied up remembers what its original was (fuse_overlay.origin), and of what was applied before it is
known what the host had then. What stands where something else was before, a whiteout or a new file, has no such memory;
but the sandbox can't have seen there what is younger than it.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple

from fuse_overlay.origin import path_sum
from rootless_sb.review.changes import ADDED, CHANGED, MODE, OWNER, TYPE, XATTRS

if TYPE_CHECKING:
    from fuse_overlay.origin import Origin
    from rootless_sb.review.changes import Change

_ATTRIBUTES = {MODE, OWNER, XATTRS}


class Trace(NamedTuple):
    """What tells when the sandbox saw a file. Times in nanoseconds since 1970.

    `origin`: what the layer's file is a copy of, or what the host had there after an apply. `since`: when the layer's
    file, or the whiteout, was made. `newest`: when the host's file last changed (st_ctime), of a directory that goes
    the newest of all in it.
    """

    origin: Origin | None
    since: int
    newest: int


def conflict(change: Change, trace: Trace) -> str:
    """What the host has done to a file meanwhile, in words; empty if nothing."""
    origin = trace.origin
    is_copy = origin is not None and origin.path == path_sum(change.path.lstrip(b"/"))
    if change.kind == ADDED or change.before is None:
        return "the host has removed it" if is_copy else ""
    st = change.before.st
    if origin is not None and is_copy and origin.is_of(st):
        return ""
    if origin is not None and is_copy and origin.ino == st.st_ino and TYPE not in change.aspects and change.after:
        if stat.S_ISDIR(st.st_mode):
            return "the host has changed its mode" if origin.mode != st.st_mode else ""
        return "the host has changed it"
    if change.kind == CHANGED and stat.S_ISDIR(st.st_mode) and _ATTRIBUTES.issuperset(change.aspects):
        return ""  # a directory that was made anew over one of the host's: only its attributes are written
    return "the host has changed it" if trace.newest > trace.since else ""
