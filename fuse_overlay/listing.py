"""Reading directories: one snapshot of the names for each handle, each entry looked up when it is handed out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_overlay.tree import Missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuse_overlay.inodes import Node
    from fuse_overlay.tree import Entry, Tree

_DOTS = (b".", b"..")


class Listing:
    """An open directory.

    A cookie is the number of entries handed out so far, in a snapshot that doesn't change until the directory is read
    from its start again. So nothing is listed twice, and what was there all the time is listed once.
    """

    __slots__ = ("_names", "_positions", "_version", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self._names: list[bytes] | None = None
        self._positions: list[int] = []
        self._version = 0

    def entries(self, tree: Tree, start: int) -> Iterator[tuple[bytes, Entry, int]]:
        """Name, entry and next cookie of each entry from the cookie `start` on, "." and ".." first.

        The entries' nodes have no look-up counted for them yet.
        """
        if start == 0 or self._names is None:
            self._scan(tree)
        names = self._names or []
        for index in range(start, len(names) + len(_DOTS)):
            if index < len(_DOTS):
                above = self.node.parent if index == 1 and self.node.parent is not None else self.node
                yield _DOTS[index], tree.attributes(above), index + 1
                continue
            name = names[index - len(_DOTS)]
            # Nothing has changed here since the snapshot: what it says of the layers still holds.
            first = self._positions[index - len(_DOTS)] if self.node.version == self._version else 0
            entry = tree.enter(self.node, name, first)
            if not isinstance(entry, Missing):
                yield name, entry, index + 1

    def _scan(self, tree: Tree) -> None:
        merged = tree.scan(self.node)
        self._names = list(merged)
        self._positions = list(merged.values())
        self._version = self.node.version
