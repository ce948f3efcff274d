"""What a request will ask of a lower layer that may not answer soon, asked beforehand, in a thread.

A file system over a network, or one that is a process (FUSE), may keep whoever asks it waiting, and a large file takes
long to copy. So before a request is answered, what it needs from there is fetched by `Errand`s; what they bring is
`Known` while the request is answered, as ever in one go. They use nothing that other requests change, but a layer's
root and names. What they tell of is a lower layer, which no request changes, whatever is answered meanwhile.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from fuse_overlay import copydata, merge, stubs, xattrs
from fuse_overlay.attributes import File
from fuse_overlay.descent import open_directory
from fuse_overlay.entries import Missing
from fuse_overlay.layers import OpenDirectory, at, open_regular, scan
from fuse_overlay.listing import as_helped, continued, is_current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fuse_overlay.copyup import CopyUp
    from fuse_overlay.inodes import Node
    from fuse_overlay.layers import Layer
    from fuse_overlay.listing import Listing, Snapshot
    from fuse_overlay.overlay import Overlay
    from fuse_overlay.tree import Tree

    Question: TypeAlias = Callable[[int], Callable[["Known"], None]]

# Files from so many bytes on are copied by a thread whatever they lie on.
_LARGE = 8 << 20

# Directories that say they have so many bytes are read by a thread: a few thousand names, on most file systems.
_LARGE_DIRECTORY = 128 << 10

# If names come and go in a large directory all the while, it is read by the request in the end.
_SURVEYS = 4


class Known:
    """What errands have brought. An OSError: that is what came of it.

    `stats`: by directory, layer and name what is there. `nodes`: what a file is now. `scans`: what is in a layer's
    directory, and `snapshots` in a merged one. `files`: opened for reading. `copies`: names in the work directory, what
    the original was then, and how much of it was copied. `targets`: of symbolic links. `values`, `names`, `kept`:
    extended attributes, see Extended.
    """

    __slots__ = ("copies", "files", "kept", "names", "nodes", "scans", "snapshots", "stats", "targets", "values")

    def __init__(self) -> None:
        self.stats: dict[tuple[Node, int, bytes], os.stat_result | OSError | None] = {}
        self.nodes: dict[Node, os.stat_result] = {}
        self.scans: dict[tuple[Node, int], merge.Scan] = {}
        self.snapshots: dict[Node, Snapshot] = {}
        self.files: dict[Node, int] = {}
        self.copies: dict[Node, tuple[bytes, os.stat_result, int]] = {}
        self.targets: dict[Node, bytes] = {}
        self.values: dict[tuple[Node, bytes], bytes | None] = {}
        self.names: dict[Node, list[bytes]] = {}
        self.kept: dict[Node, dict[bytes, bytes]] = {}


class Errand:
    """One question to one directory of a lower layer. `ask` runs in a thread; the rest doesn't."""

    def __init__(self, node: Node, layer: Layer, question: Question) -> None:
        """`question` is given a descriptor of the directory, which is `node`, and returns what makes the answer known.

        It raises OSError where there is no answer: then the request itself will ask, and learn the error.
        """
        self._node = node
        self._layer = layer
        self._names = list(reversed([above.name for above in node.lineage() if above.parent is not None]))
        self._question = question
        self._tell: Callable[[Known], None] | None = None
        self._directory: OpenDirectory | None = None

    def ask(self) -> None:
        """Fetch the answer."""
        try:
            fd = open_directory(self._layer.root.fd, self._names)
            st = os.fstat(fd)
            self._directory = OpenDirectory(fd, st.st_dev, st.st_ino)
            self._tell = self._question(fd)
        except OSError:
            return

    def give(self, tree: Tree, known: Known) -> None:
        """Make the answer known."""
        if self._directory is not None:
            tree.directories.adopt(self._node, self._layer, self._directory)
            self._directory = None
        if self._tell is not None:
            self._tell(known)


class Survey(Errand):
    """What is in a whole merged directory, which may be large. Of no use if a name in it has changed meanwhile."""

    def __init__(self, tree: Tree, node: Node) -> None:
        super().__init__(node, node.source, self._merge)
        self._version = node.version
        self._before = node.snapshot
        self._layers = node.dirs
        # A directory of the upper may be moved while it is read: that one is reached by a descriptor and no path.
        self._own = -1 if not node.dirs[0].writable else os.dup(tree.directories.get(node, node.dirs[0]).fd)

    def ask(self) -> None:
        """Read it."""
        try:
            self._tell = self._merge(-1)
        except OSError:
            return
        finally:
            if self._own >= 0:
                os.close(self._own)

    def _merge(self, _: int) -> Callable[[Known], None]:
        merged = merge.merge(map(self._scan, self._layers))
        before = as_helped(self._layers, self._scan) if self._before is None and self._version else self._before
        found = continued(before, merged, self._version)

        def tell(known: Known) -> None:
            if self._node.version == self._version and self._node.snapshot is self._before:
                known.snapshots[self._node] = found

        return tell

    def _scan(self, layer: Layer) -> merge.Scan:
        if layer.writable:
            return scan(lambda: self._own, layer)
        opened: list[int] = []

        def directory() -> int:
            opened.append(open_directory(layer.root.fd, self._names))
            return opened[0]

        try:
            return scan(directory, layer)
        finally:
            for fd in opened:
                os.close(fd)


class Ahead:
    """Says what to ask beforehand."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._tree = overlay.tree
        self._copyup = overlay.copyup

    @contextmanager
    def known(self, known: Known) -> Iterator[None]:
        """Let a request know this."""
        self._tree.known = known
        try:
            yield
        finally:
            self._tree.known = None

    def take(self, errand: Errand, known: Known) -> None:
        """Make known what an errand has brought."""
        errand.give(self._tree, known)

    def drop(self, known: Known) -> None:
        """Let go of what no request has used."""
        for fd in known.files.values():
            self._tree.close_later(fd)
        for name, _, _ in known.copies.values():
            if self._copyup is not None:
                self._copyup.discard(name)

    def entry(self, parent: int, name: bytes) -> Iterable[Errand]:
        """Before the look-up of a name."""
        node = self._tree.table.nodes.get(parent)
        if node is None or not (node.slow or name in self._tree.mounts.remote_names):
            return ()
        return (self._look(node, layer, [name]) for layer in node.dirs if not layer.writable)

    def new_entry(self, parent: int, name: bytes) -> Iterator[Errand]:
        """Before a name is made."""
        yield from self.entry(parent, name)
        node = self._tree.table.nodes.get(parent)
        if node is not None and self._is_slow(node):
            yield self._value(node, xattrs.ACL_DEFAULT)
            yield from self._dressing(node)

    def end_of_entry(self, parent: int, name: bytes) -> Iterator[Errand]:
        """Before a name is removed."""
        yield from self.entry(parent, name)
        above = self._tree.table.nodes.get(parent)
        if above is None or not above.slow:
            return
        yield from self._dressing(above)
        node = self._tree.table.directory(above, name)
        if node is not None and node.kind == stat.S_IFDIR:
            yield from self._scans(node)

    def moved_entry(self, parent: int, name: bytes, new_parent: int, new_name: bytes) -> Iterator[Errand]:
        """Before a name is moved."""
        yield from self.end_of_entry(parent, name)
        yield from self.end_of_entry(new_parent, new_name)
        if (node := self._at(parent, name)) is not None:
            yield from self._copy(node, None)

    def file(self, ino: int) -> Iterable[Errand]:
        """Before a file's attributes are looked at."""
        node = self._tree.table.nodes.get(ino)
        return (self._stat(node),) if node is not None and self._is_slow(node) else ()

    def link_target(self, ino: int) -> Iterable[Errand]:
        """Before a symbolic link is read."""
        node = self._tree.table.nodes.get(ino)
        if node is None or not self._is_slow(node):
            return ()

        name = _name_of(node)

        def ask(fd: int) -> Callable[[Known], None]:
            target = os.readlink(name, dir_fd=fd)
            return lambda known: known.targets.update({node: target})

        return (Errand(_above(node), node.source, ask),)

    def value(self, ino: int, name: bytes) -> Iterable[Errand]:
        """Before an extended attribute is read."""
        node = self._tree.table.nodes.get(ino)
        return (self._value(node, name),) if node is not None and self._is_slow(node) else ()

    def names(self, ino: int) -> Iterable[Errand]:
        """Before the extended attributes are listed."""
        node = self._tree.table.nodes.get(ino)
        if node is None or not self._is_slow(node):
            return ()

        file = _file_of(node)

        def ask(fd: int) -> Callable[[Known], None]:
            names = self._tree.extended.names(file(fd))
            return lambda known: known.names.update({node: names})

        return (Errand(_above(node), node.source, ask),)

    def opened(self, ino: int, flags: int) -> Iterable[Errand]:
        """Before a file is opened."""
        node = self._node(ino)
        if node is None or node.source.writable:
            return ()
        if flags & os.O_TRUNC:
            return self._copy(node, 0)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            return self._copy(node, None)
        return (self._opening(node),) if self._is_slow(node) and node.parent is not None else ()

    def changed(self, ino: int, length: int | None = None) -> Iterable[Errand]:
        """Before a file is changed, of which the first `length` bytes stay, or all."""
        node = self._node(ino)
        return () if node is None or node.source.writable else self._copy(node, length)

    def linked(self, ino: int, parent: int, name: bytes) -> Iterator[Errand]:
        """Before a file gets another name."""
        yield from self.changed(ino)
        yield from self.new_entry(parent, name)

    def listed(self, handle: int, start: int) -> Iterator[Errand]:
        """Before a directory is read from the cookie `start` on."""
        listing = self._overlay.listing(handle)
        node = listing.node
        begins = start == 0 or not listing.is_begun
        if begins and not is_current(node) and not node.gone and (node.slow or self._is_large(node)):
            yield from self._survey(listing)
        remote = self._tree.mounts.remote_names
        if not (node.slow or remote):
            return
        coming = [name for name in listing.coming(start) if node.slow or name in remote]
        if coming:
            yield from (self._look(node, layer, coming) for layer in node.dirs if not layer.writable)

    def _survey(self, listing: Listing) -> Iterator[Errand]:
        for _ in range(_SURVEYS):
            known = Known()
            errand = Survey(self._tree, listing.node)
            yield errand
            errand.give(self._tree, known)
            if known.snapshots:
                with self.known(known):
                    listing.begin(self._tree)
                return

    def _is_large(self, node: Node) -> bool:
        """Whether it takes long to list a directory, by the size that its file systems give it."""
        try:
            found = (os.fstat(self._tree.directories.get(node, layer).fd) for layer in node.dirs)
            return any(st.st_size > _LARGE_DIRECTORY for st in found)
        except OSError:
            return False  # the request itself will say

    def _at(self, parent: int, name: bytes) -> Node | None:
        """The known file at a name of a directory that answers at once."""
        above = self._tree.table.nodes.get(parent)
        if above is None or above.slow:
            return None
        try:
            found = self._tree.resolve(above, name)
            if isinstance(found, Missing):
                return None
            key = (found.st.st_dev, found.st.st_ino)
            return self._tree.table.file(key) or stubs.adopt(self._tree, self._tree.table.numbers.derive(key))
        except OSError:
            return None

    def _node(self, ino: int) -> Node | None:
        """The node of this number, though only the helper may know it so far."""
        try:
            return self._tree.node(ino)
        except OSError:
            return None  # the request itself will say

    def _is_slow(self, node: Node) -> bool:
        return node.slow and not node.source.writable and not node.gone

    def _stat(self, node: Node) -> Errand:
        name = _name_of(node)

        def ask(fd: int) -> Callable[[Known], None]:
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
            return lambda known: known.nodes.update({node: st})

        return Errand(_above(node), node.source, ask)

    def _value(self, node: Node, name: bytes) -> Errand:
        file = _file_of(node)

        def ask(fd: int) -> Callable[[Known], None]:
            value = self._tree.extended.read(file(fd), name)
            return lambda known: known.values.update({(node, name): value})

        return Errand(_above(node), node.source, ask)

    def _kept(self, node: Node) -> Errand:
        file = _file_of(node)

        def ask(fd: int) -> Callable[[Known], None]:
            kept = self._tree.extended.kept(file(fd))
            return lambda known: known.kept.update({node: kept})

        return Errand(_above(node), node.source, ask)

    def _look(self, parent: Node, layer: Layer, names: list[bytes]) -> Errand:
        def look(fd: int) -> Callable[[Known], None]:
            found = {(parent, layer.number, name): _looked_up(layer, fd, name) for name in names}
            return lambda known: known.stats.update(found)

        return Errand(parent, layer, look)

    def _scans(self, node: Node) -> Iterator[Errand]:
        return (self._scan(node, layer) for layer in node.dirs if not layer.writable)

    def _scan(self, node: Node, layer: Layer) -> Errand:
        def read(fd: int) -> Callable[[Known], None]:
            found = scan(lambda: fd, layer)
            return lambda known: known.scans.update({(node, layer.number): found})

        return Errand(node, layer, read)

    def _opening(self, node: Node) -> Errand:
        name, source, own = node.name, node.source, node.own

        def open_it(fd: int) -> Callable[[Known], None]:
            opened = open_regular(name, os.O_RDONLY, fd, source, own=own)
            st = os.fstat(opened)

            def tell(known: Known) -> None:
                known.files[node] = opened
                known.nodes[node] = st

            return tell

        return Errand(_above(node), node.source, open_it)

    def _dressing(self, node: Node) -> Iterator[Errand]:
        """What a copy of a file, and of the directories above it, takes besides its data."""
        for each in node.lineage():
            if self._is_slow(each):
                yield self._stat(each)
                yield self._kept(each)

    def _copy(self, node: Node, length: int | None) -> Iterator[Errand]:
        """A copy of a file; of its data only the first `length` bytes if that is given."""
        if self._copyup is None or node.source.writable or node.fixed or node.gone or node.parent is None:
            return
        yield from self._dressing(node)
        if node.kind == stat.S_IFREG and length != 0 and (node.slow or _size(self._tree, node, length) >= _LARGE):
            yield self._data(self._copyup, node, length)

    def _data(self, copyup: CopyUp, node: Node, length: int | None) -> Errand:
        name, layer, own, slow = node.name, node.source, node.own, node.slow
        staged, room = copyup.name(), self._tree.quota.room()

        def copy(fd: int) -> Callable[[Known], None]:
            source = open_regular(name, os.O_RDONLY, fd, layer, own=own)
            try:
                st = os.fstat(source)
                wanted = st.st_size if length is None else min(length, st.st_size)
                if room is None or min(wanted, st.st_blocks * 512) <= room:
                    copyup.stage(staged, lambda target: copydata.copy(source, target, wanted))
            finally:
                os.close(source)

            def tell(known: Known) -> None:
                known.copies[node] = (staged, st, wanted)
                if slow:
                    known.nodes[node] = st

            return tell

        return Errand(_above(node), node.source, copy)


def _above(node: Node) -> Node:
    """The directory that a file is in; of the root itself."""
    return node if node.parent is None else node.parent


def _name_of(node: Node) -> bytes:
    """The name of a file in that directory."""
    return b"." if node.parent is None else node.name


def _file_of(node: Node) -> Callable[[int], File]:
    """What makes the real file, as it is now, of a descriptor of its directory."""
    layer, kind, ino, name = node.source, node.real_kind, node.key[1], _name_of(node)
    return lambda fd: File(layer, kind, ino, at(fd, name), ((fd, name),))


def _looked_up(layer: Layer, fd: int, name: bytes) -> os.stat_result | OSError | None:
    try:
        return layer.stat(fd, name)
    except OSError as error:
        return error


def _size(tree: Tree, node: Node, length: int | None) -> int:
    """How many bytes of a file are to be copied."""
    try:
        size = tree.attributes(node).st.st_size
    except OSError:  # the request itself will say
        return 0
    return size if length is None else min(size, length)
