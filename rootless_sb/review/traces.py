"""When the sandbox saw what it changed, read from its layer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuse_overlay import origin, whiteout, xattrs
from rootless_sb.kernel import births
from rootless_sb.review.changes import directories_above
from rootless_sb.review.conflicts import Trace, is_original

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fuse_overlay.origin import Origin
    from rootless_sb.review.changes import Change
    from rootless_sb.review.layer import LayerView


def trace(view: LayerView, change: Change, applied: Mapping[bytes, Origin], created: int, newest: int) -> Trace:
    """The trace of a change. Raises OSError.

    `applied`: what has been brought to the host before. `created`: when the sandbox was made, in nanoseconds since
    1970, for file systems that don't say when a file was. `newest`: see `Trace`.
    """
    above, _, name = change.path.rpartition(b"/")
    fd = view.descriptor_of(view.upper, above)
    known = applied.get(change.path)
    if change.after is None:
        made = _whiteout_time(view, fd, name) or _opaque_time(view, change.path)
        return Trace(known, made or created, newest)
    if known is None:
        value = view.upper.store.read(view.file(change), xattrs.ORIGIN)
        known = origin.parse(value) if value is not None else None
    if change.before is None or (not newest and is_original(change, known)):
        return Trace(known, created, newest)  # nobody needs to know then when it was made
    made = births.birth_time(fd, name)
    return Trace(known, made or created, newest)


def _whiteout_time(view: LayerView, fd: int, name: bytes) -> int | None:
    """When a whiteout was made; None if there isn't one."""
    for mark in (name, whiteout.mark_of(name)):
        try:
            st = os.stat(mark, dir_fd=fd, follow_symlinks=False)
        except OSError:  # there is none, or its name would be too long
            continue
        if mark != name or view.upper.layers[0].is_whiteout(fd, name, st):
            return st.st_mtime_ns
    return None


def _opaque_time(view: LayerView, path: bytes) -> int | None:
    """When the directory was made that hides all below it, this path among that."""
    return next((view.opaque[above] for above in directories_above(path) if above in view.opaque), None)
