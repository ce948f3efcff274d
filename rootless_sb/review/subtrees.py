"""What lies in a directory of the host that is to go: whether it can, and when any of it last changed."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay.entries import Missing
from fuse_overlay.tuples import NamedTuple
from rootless_sb.review.stamps import Tally
from rootless_sb.ui.changes import shown

if TYPE_CHECKING:
    from fuse_overlay.inodes import Node
    from rootless_sb.review.actions import Stamp
    from rootless_sb.review.layer import LayerView
    from rootless_sb.review.owners import Identity

_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Contents(NamedTuple):
    """`newest`: the latest st_ctime in a directory, in nanoseconds, without its own. `stamp`: see `stamps`; None for
    what wasn't looked through to its end.

    `obstacle`: why it can't be removed, empty if it can. `hidden`: what would be lost unseen, in words.
    """

    newest: int
    obstacle: str = ""
    hidden: str = ""
    stamp: Stamp | None = None


def contents(view: LayerView, path: bytes, who: Identity) -> Contents:
    """Look through all that is at a path of the host, for who wants to remove it. Raises OSError."""
    newest, tally = 0, Tally()
    top = view.node_at(view.lower, path)
    device = view.lower.attributes(top).st.st_dev
    waiting = [(top, path)]
    while waiting:
        node, here = waiting.pop()
        try:
            st = view.lower.attributes(node).st
            if st.st_dev != device:
                return Contents(newest, f"a file system is mounted at {shown(here)}")
            names = _names(view, node)
            if names and who.uid != 0 and not who.owns(st.st_uid):
                return Contents(newest, f"{shown(here)} belongs to somebody else")
            for name in names:
                entry = view.lower.enter(node, name)
                if isinstance(entry, Missing):
                    return Contents(newest, hidden=f"{shown(here + b'/' + name)} in it is hidden from the sandbox")
                newest = max(newest, entry.st.st_ctime_ns)
                tally.add((here + b"/" + name)[len(path) + 1 :], entry.st)
                if entry.node.kind == stat.S_IFDIR:
                    entry.node.lookups += 1
                    waiting.append((entry.node, here + b"/" + name))
                view.lower.table.settle(entry.node)
        except PermissionError:
            return Contents(newest, f"{shown(here)} can't be read")
        finally:
            view.lower.table.forget(node, 1)
    return Contents(newest, stamp=tally.stamp)


def _names(view: LayerView, node: Node) -> list[bytes]:
    """All names in a directory of the host, those too that the sandbox doesn't see."""
    directory, name = view.lower.place(node)
    descriptor = os.open(name, _LIST, dir_fd=directory)
    try:
        return [os.fsencode(each) for each in os.listdir(descriptor)]
    finally:
        os.close(descriptor)
