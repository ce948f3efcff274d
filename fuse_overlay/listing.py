"""Reading directories: a snapshot of the names, each entry looked up when it is handed out."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from fuse_overlay.entries import Missing
from fuse_overlay.kernel.shortcut import SHORTCUT
from fuse_overlay.merge import merge
from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fuse_overlay.entries import Entry
    from fuse_overlay.inodes import Node
    from fuse_overlay.layers import Layer
    from fuse_overlay.merge import Scan
    from fuse_overlay.tree import Tree

_DOTS = (b".", b"..")

# So many entries of a slow directory are looked up at once, and no more are given in one answer.
MOST_SLOW = 128


class Snapshot(NamedTuple):
    """What was in a directory when it was last read from its start.

    `cookies`: a number for each of the names, rising. `positions`: for each the first of the directory's layers that
    has it, as long as the directory's version is `version`. `last`: the highest cookie that was ever given out here.
    """

    names: list[bytes]
    cookies: Sequence[int]
    positions: list[int]
    version: int
    last: int


class Listing:
    """An open directory.

    A name keeps its cookie as long as it is in the directory and the directory is known, whoever reads it: the kernel
    goes on with a cookie of one reader where it has cached what another one read. So what was there all the time is
    listed once, and nothing is listed twice.
    """

    __slots__ = ("_snapshot", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self._snapshot: Snapshot | None = None

    @property
    def is_begun(self) -> bool:
        """Whether it has a snapshot to go on with."""
        return self._snapshot is not None

    def begin(self, tree: Tree) -> Snapshot:
        """See what is in the directory now."""
        self._snapshot = self.node.snapshot = _taken(tree, self.node)
        return self._snapshot

    def coming(self, start: int) -> list[bytes]:
        """The names that come next after the cookie `start`, without "." and ".."."""
        if self._snapshot is None:
            return []
        first = bisect_right(self._snapshot.cookies, start)
        return self._snapshot.names[first : first + MOST_SLOW]

    def entries(self, tree: Tree, start: int) -> Iterator[tuple[bytes, Entry, int]]:
        """Name, entry and cookie of each entry that comes after the cookie `start`, "." and ".." first; of a slow
        directory not all at once.

        The entries' nodes have no look-up counted for them yet.
        """
        node = self.node
        snapshot = self.begin(tree) if start == 0 or self._snapshot is None else self._snapshot
        for cookie in range(start + 1, len(_DOTS) + 1):
            above = node.parent if cookie == len(_DOTS) and node.parent is not None else node
            yield _DOTS[cookie - 1], tree.attributes(above), cookie
        names, cookies, positions, version, _ = snapshot
        first = bisect_right(cookies, start)
        for index in range(first, min(len(names), first + MOST_SLOW) if node.slow else len(names)):
            name = names[index]
            # Nothing has changed here since the snapshot: what it says of the layers still holds.
            entry = tree.enter(node, name, positions[index] if node.version == version else 0)
            if not isinstance(entry, Missing):
                yield name, entry, cookies[index]


def is_current(node: Node) -> bool:
    """Whether what was last found in a directory is what is there."""
    return node.snapshot is not None and node.snapshot.version == node.version and node.settled


def continued(before: Snapshot | None, merged: dict[bytes, int], version: int) -> Snapshot:
    """The snapshot of a directory with these names, given the one before, whose cookies go on to be good. Pure."""
    if before is None:
        last = len(_DOTS) + len(merged)
        return Snapshot(list(merged), range(len(_DOTS) + 1, last + 1), list(merged.values()), version, last)
    known = dict(zip(before.names, before.cookies, strict=True))
    kept = {name: cookie for name, cookie in known.items() if name in merged}
    new = [name for name in merged if name not in known]
    names, last = [*kept, *new], before.last + len(new)
    cookies = [*kept.values(), *range(before.last + 1, last + 1)]
    return Snapshot(names, cookies, [merged[name] for name in names], version, last)


def as_helped(layers: tuple[Layer, ...], scan: Callable[[Layer], Scan]) -> Snapshot | None:
    """A changed directory of these layers as the helper may have listed it before, in this order; None if it hasn't.
    Raises OSError.
    """
    if not layers or not layers[-1].steady:
        return None
    return continued(None, merge([scan(layers[-1])]), -1)


def keep_order(tree: Tree, node: Node) -> None:
    """See that who lists a directory by the helper can go on once the directory has no layers any more. Raises
    OSError.
    """
    if node.snapshot is None and SHORTCUT.lists(node.ino):
        node.snapshot = as_helped(node.dirs, lambda layer: tree.scan_layer(node, layer))


def _taken(tree: Tree, node: Node) -> Snapshot:
    before = node.snapshot
    if before is not None and is_current(node):
        return before
    if tree.known is not None and node in tree.known.snapshots:
        return tree.known.snapshots[node]
    if before is None and node.version:
        before = as_helped(node.dirs, lambda layer: tree.scan_layer(node, layer))
    return continued(before, tree.scan(node), node.version)
