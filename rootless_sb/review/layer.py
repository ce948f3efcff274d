"""A sandbox's layer beside what is below it, read by descriptors, without a mount."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay import merge
from fuse_overlay.attributes import File
from fuse_overlay.entries import Missing
from fuse_overlay.layers import ABSENT, Budget, at, open_regular
from fuse_overlay.tree import Tree
from fuse_overlay.tuples import NamedTuple
from rootless_sb.kernel import births
from rootless_sb.review import merged, mountpoints
from rootless_sb.review.changes import ADDED, CHANGED, DELETED, TYPE, Change, Item, aspects

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fuse_overlay.config import Config
    from fuse_overlay.entries import Entry
    from fuse_overlay.inodes import Key, Node

# What each tree may hold open: only directories stay.
DESCRIPTORS = Budget(200, 200)
_BLOCK = 1 << 20


class _Pair(NamedTuple):
    """A directory of the layer, the one below it if there is one, and whether nothing of that shows through: the one
    that it lies in is opaque, or there is a mark beside it.
    """

    above: Node
    below: Node | None
    path: bytes
    opaque: bool


class LayerView:
    """`upper` is the layer alone, `lower` all that is below it. Paths are absolute in the sandbox."""

    def __init__(self, config: Config, layer: str, made: Iterable[str] = ()) -> None:
        """Open the layer, a directory, over what `config` has for lower layers. Raises OverlayError.

        `made`: where sb has made something in it itself, see `mountpoints`.
        """
        self._own_uid = config.own_uid
        self.lower = Tree(config, DESCRIPTORS)
        # Files of the host's that the sandbox has not seen, but others that were made for it.
        self.replaced = frozenset(config.replaced)
        alone = config._replace(lowers=(), upper=os.fsencode(layer), hidden=(), hidden_names=(), replaced=())
        self.upper = Tree(alone, DESCRIPTORS)
        self.upper.stored_origins = False  # nobody asks for inode numbers here
        # The directory that was asked for last: who goes through changes by path asks for the same one many times.
        self._last: dict[Tree, tuple[bytes, Node]] = {}
        self._made = [merged.real_path(self.lower, os.fsencode(os.path.normpath(place))) for place in made]
        # Where files with hard links lie that haven't changed, by the layer's (st_dev, st_ino).
        self.unchanged_links: dict[Key, bytes] = {}
        # The extended attributes of files that have changed, those that have any: they were read to be compared.
        self._compared_xattrs: dict[bytes, dict[bytes, bytes]] = {}
        # The directories that hide all below them, and lie in none that does: when each was made (`births`).
        self.opaque: dict[bytes, int | None] = {}

    def close(self) -> None:
        """Let go of it."""
        self.upper.close()
        self.lower.close()

    def open(self, tree: Tree, node: Node) -> int:
        """Open a regular file of one of the two trees for reading. Raises OSError."""
        directory, name = tree.place(node)
        return open_regular(name, os.O_RDONLY, directory, node.source, own=node.own)

    def file(self, change: Change) -> File:
        """The layer's file of a change that isn't a deletion. Raises OSError."""
        assert change.after is not None
        above, _, name = change.path.rpartition(b"/")
        fd = self.descriptor_of(self.upper, above)
        st = change.after.st
        return File(self.upper.layers[0], stat.S_IFMT(st.st_mode), st.st_ino, at(fd, name), ((fd, name),))

    def xattrs(self, change: Change) -> dict[bytes, bytes]:
        """The extended attributes that the sandbox sees of the layer's file of a change. Raises OSError."""
        if change.after is None or change.after.kind == stat.S_IFLNK:  # which can't have any: acl(5), xattr(7)
            return {}
        if change.kind == CHANGED and TYPE not in change.aspects:
            return self._compared_xattrs.get(change.path, {})
        return xattrs_of(self.upper, self.file(change))

    def open_changed(self, change: Change) -> int:
        """Open the layer's file of a change, a regular one, for reading. Raises OSError."""
        above, _, name = change.path.rpartition(b"/")
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.descriptor_of(self.upper, above))

    def descriptor_of(self, tree: Tree, path: bytes) -> int:
        """A descriptor (O_PATH) of a directory of one of the two trees, good until another one is asked for."""
        node = self.directory_at(tree, path)
        return tree.directories.get(node, node.source).fd

    def open_at(self, tree: Tree, path: bytes) -> int:
        """Open the regular file at a path of one of the two trees for reading. Raises OSError."""
        node = self.node_at(tree, path)
        try:
            return self.open(tree, node)
        finally:
            tree.table.forget(node, 1)

    def node_at(self, tree: Tree, path: bytes) -> Node:
        """The node at a path of one of the two trees, held until it is forgotten. Raises OSError."""
        above, _, name = path.rstrip(b"/").rpartition(b"/")
        node = tree.require(self.directory_at(tree, above), name) if name else tree.root
        node.lookups += 1
        return node

    def directory_at(self, tree: Tree, path: bytes) -> Node:
        """The node of a directory, good until another one is asked for. Raises OSError."""
        known = self._last.get(tree)
        if known is not None and known[0] == path:
            return known[1]
        node = tree.root
        node.lookups += 1
        for name in path.split(b"/"):
            if name:
                below = tree.require(node, name)
                below.lookups += 1
                tree.table.forget(node, 1)
                node = below
        if known is not None:
            tree.table.forget(known[1], 1)
        self._last[tree] = (path, node)
        return node

    def changes(self) -> list[Change]:
        """All changes, by path. Raises OSError for what can't be read."""
        found = sorted(self._walk(), key=lambda change: change.path)
        return mountpoints.without_made(found, self._made, self._own_uid)

    def _walk(self) -> Iterator[Change]:
        waiting = [_Pair(self.upper.root, self.lower.root, b"", opaque=False)]
        while waiting:
            pair = waiting.pop()
            yield from self._directory(pair, waiting)
            self.upper.table.forget(pair.above, 1)
            if pair.below is not None:
                self.lower.table.forget(pair.below, 1)

    def _directory(self, pair: _Pair, waiting: list[_Pair]) -> Iterator[Change]:
        """The changes in one directory. Those among its directories that the layer has go to `waiting`, held."""
        above, below, path, _ = pair
        try:
            scan = self.upper.scan_layer(above, above.source)
            gone = merge.taken_away(scan)
            opaque = pair.opaque or (below is not None and self._is_opaque(above, path))
            names = merge.merge([scan])
            if below is not None:
                removed = set(self.lower.scan(below)) if opaque else gone
                yield from self._deleted(below, removed - names.keys(), path)
        except OSError as error:
            if not merged.is_gone(error):
                raise
            return
        for name in names:
            try:
                yield from self._entry(pair._replace(opaque=opaque), name, gone, waiting)
            except OSError as error:
                if not merged.is_gone(error):
                    raise

    def _entry(self, pair: _Pair, name: bytes, gone: set[bytes], waiting: list[_Pair]) -> Iterator[Change]:
        """The change at one name in a directory of the layer, which has marks beside the names `gone`."""
        above, below, path, opaque = pair
        entry = self._enter(self.upper, above, name)
        if entry is None:
            return
        under = self._enter(self.lower, below, name) if below is not None else None
        at_name = path + b"/" + name
        yield from self._compared(at_name, entry, under)
        if entry.node.kind == stat.S_IFDIR:
            both = under is not None and under.node.kind == stat.S_IFDIR
            if name in gone and not opaque:
                self._note_opaque(above, name, at_name)
            held = _Pair(entry.node, under.node if under and both else None, at_name, opaque or name in gone)
            waiting.append(held)
            held.above.lookups += 1
            if held.below is not None:
                held.below.lookups += 1
        self._settle(entry, under)

    def _is_opaque(self, above: Node, path: bytes) -> bool:
        """Whether a directory of the layer, at a path, is opaque by itself."""
        if not above.source.is_opaque(self.upper.directories.get(above, above.source).fd, b"."):
            return False
        self._note_opaque(above, b".", path)
        return True

    def _note_opaque(self, above: Node, name: bytes, path: bytes) -> None:
        self.opaque[path] = births.birth_time(self.upper.directories.get(above, above.source).fd, name)

    def _deleted(self, below: Node, names: Iterable[bytes], path: bytes) -> Iterator[Change]:
        for name in names:
            entry = self._enter(self.lower, below, name)
            if entry is not None:
                yield Change(DELETED, path + b"/" + name, item_of(self.lower, entry), None)
                self.lower.table.settle(entry.node)

    def _compared(self, path: bytes, entry: Entry, under: Entry | None) -> Iterator[Change]:
        """What the layer's file at a path is a change of, if it is one."""
        after = item_of(self.upper, entry)
        if under is None:
            yield Change(ADDED, path, None, after)
            return
        before = item_of(self.lower, under)
        differing: tuple[str, ...] = ()
        if before.kind == after.kind:
            same_data = after.kind != stat.S_IFREG or self._same_data(entry, under)
            own = xattrs_of(self.upper, self.upper.file(entry.node))
            same_xattrs = own == xattrs_of(self.lower, self.lower.file(under.node))
            differing = aspects(before, after, same_data=same_data, same_xattrs=same_xattrs)
            if own and differing:
                self._compared_xattrs[path] = own
        else:
            differing = aspects(before, after, same_data=False, same_xattrs=False)
        if differing:
            yield Change(CHANGED, path, before, after, differing)
        elif entry.st.st_nlink > 1 and after.kind != stat.S_IFDIR:
            self.unchanged_links[entry.node.key] = path

    def _same_data(self, entry: Entry, under: Entry) -> bool:
        if entry.st.st_size != under.st.st_size:
            return False
        if not entry.st.st_size:
            return True
        opened = []
        try:
            opened.append(self.open(self.upper, entry.node))
            opened.append(self.open(self.lower, under.node))
            return _equal(*opened)
        except OSError as error:
            if error.errno not in ABSENT:
                raise
            return False  # what can't be read can't be the copy of it that the layer has
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _settle(self, entry: Entry, under: Entry | None) -> None:
        self.upper.table.settle(entry.node)
        if under is not None:
            self.lower.table.settle(under.node)

    def _enter(self, tree: Tree, above: Node, name: bytes) -> Entry | None:
        entry = tree.enter(above, name)
        return None if isinstance(entry, Missing) else entry


def item_of(tree: Tree, entry: Entry) -> Item:
    """A file as the sandbox sees it. Raises OSError."""
    node = entry.node
    target = b""
    if node.kind == stat.S_IFLNK:
        directory, name = tree.place(node)
        target = os.readlink(name, dir_fd=directory)
    rdev = entry.st.st_rdev if node.rdev is None else node.rdev
    return Item(node.kind, entry.owner, rdev, target, entry.st)


def xattrs_of(tree: Tree, file: File) -> dict[bytes, bytes]:
    """The extended attributes that the sandbox sees, ACLs and capabilities among them. Raises OSError."""
    found = ((name, tree.extended.read(file, name)) for name in tree.extended.names(file))
    return {name: value for name, value in found if value is not None}


def _equal(one: int, other: int) -> bool:
    """Whether two open files hold the same from here to their ends."""
    while True:
        block = os.read(one, _BLOCK)
        if block != os.read(other, _BLOCK):
            return False
        if not block:
            return True
