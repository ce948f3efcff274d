"""Whether the host has changed a file since the sandbox first saw it. Pure.

A file that was copied up remembers what its original was (fuse_overlay.origin), and of what was applied before it is
known what the host had then. What stands where something else was before, a whiteout or a new file, has no such memory;
but the sandbox can't have seen there what is younger than it.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from fuse_overlay.origin import path_sum
from fuse_overlay.tuples import NamedTuple
from rootless_sb.review.changes import TYPE

if TYPE_CHECKING:
    import os

    from fuse_overlay.origin import Origin
    from rootless_sb.review.changes import Change


class Trace(NamedTuple):
    """What tells when the sandbox saw a file. Times in nanoseconds since 1970.

    `origin`: what the layer's file is a copy of, or what the host had there after an apply. `since`: when the layer's
    file, or the whiteout, was made. `newest`: when anything in a directory of the host's that goes last changed
    (st_ctime), 0 if there is nothing in it.
    """

    origin: Origin | None
    since: int
    newest: int


def is_original(change: Change, origin: Origin | None) -> bool:
    """Whether the host still has, unchanged, what the layer's file is a copy of, or what an apply has written."""
    same_path = origin is not None and origin.path == path_sum(change.path.lstrip(b"/"))
    return same_path and origin is not None and change.before is not None and origin.is_of(change.before.st)


def conflict(change: Change, trace: Trace) -> str:
    """What the host has done to a file meanwhile, in words; empty if nothing."""
    origin = trace.origin
    is_copy = origin is not None and origin.path == path_sum(change.path.lstrip(b"/"))
    if change.before is None:
        return "the host has removed it" if is_copy else ""
    st = change.before.st
    if trace.newest > trace.since:
        return "the host has changed what is in it"
    if is_original(change, origin):
        return ""
    if stat.S_ISDIR(st.st_mode) and change.after is not None and TYPE not in change.aspects:
        known = origin is not None and is_copy and origin.ino == st.st_ino
        # One that was made anew over the host's has no say in what the host's was; its attributes alone are written.
        return "the host has changed its mode" if origin is not None and known and origin.mode != st.st_mode else ""
    return "the host has changed it" if _is_later(st, trace, is_copy=is_copy) else ""


def _is_later(st: os.stat_result, trace: Trace, *, is_copy: bool) -> bool:
    """Whether a file of the host's is another one than was copied, or younger than what is at its place."""
    is_original = is_copy and trace.origin is not None and trace.origin.ino == st.st_ino
    if is_original and not stat.S_ISDIR(st.st_mode):
        return True
    return st.st_ctime_ns > trace.since
