"""The files that the kernel knows, and their inode numbers."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from fuse_overlay.kernel.shortcut import SHORTCUT
from fuse_overlay.ownership import Device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fuse_overlay.layers import Layer
    from fuse_overlay.listing import Snapshot
    from fuse_overlay.ownership import Owner

ROOT = 1

# File handles from here on are no descriptors (handles.py), which are ints.
TRANSIENT = 1 << 32

# A number is a tag for the device in the high bits and the real number in the low ones, so two file systems never
# share one, and it is the same whenever the same layers are mounted. 15 bits of tag keep it below 2**63.
_LOW_BITS = 48
_LOW_MASK = (1 << _LOW_BITS) - 1
_TAGS = 0x7FFF
_FRESH_TAG = _TAGS << _LOW_BITS
_MANY = 1 << 12  # nodes: tables that never held more aren't worth shrinking
_FEW = 64  # nodes: what is worth it is shrunk again and again, until there are no more

# Types and devices of files: an int of its own for each of them would be a ninth of a node's memory.
_SHARED: dict[int, int] = {}

Key = tuple[int, int]  # st_dev, st_ino


class Node:
    """A file, directory or whatever has an inode number in the merged tree.

    `parent` and `name` say where it is; `aliases` holds more such places when it has hard links. `source` is the
    layer that its attributes come from, `key` the real (st_dev, st_ino) there. `dirs` are a directory's layers, from
    the top, in which its entries are looked up. `seen` is (st_ctime_ns, st_size) as the kernel learnt it. `own`: it
    belongs to the server's user. `owner`: what is shown, when it is known and nobody but us can change it. `handles`
    are those it is open by, descriptors first. `gone`: it has no name any more. `aside`: its name in the work
    directory, if it has one there because of its handles. `version` changes with a directory's entries.
    `rdev`: the number of a device node whose real file is an empty regular one, since only root can make the node.
    `fixed`: it was found at or beneath a read-only path.
    `default_acl`: a directory's, as an attribute's value, when it is known and nobody but us can change it; b"": none.
    `attributed`: whether any extended attributes are shown of it, when it is known and nobody but us can change that.
    `slow`: it lies on a file system that may not answer soon; of a directory, one of those that are merged does.
    `snapshot`: what was in a directory when it was last listed.
    """

    __slots__ = (
        "aliases", "aside", "attributed", "children", "default_acl", "dirs", "fixed", "gone", "handles", "ino", "key",
        "kind", "lookups", "name", "own", "owner", "parent", "rdev", "seen", "slow", "snapshot", "source", "version",
    )  # fmt: skip

    def __init__(self, ino: int, kind: int, key: Key, parent: Node | None, name: bytes, source: Layer) -> None:
        self.ino = ino
        device, real = key
        self.kind = _SHARED.setdefault(kind, kind)
        self.key = (_SHARED.setdefault(device, device), real)
        self.parent = parent
        self.name = name
        self.source = source
        self.dirs: tuple[Layer, ...] = ()
        self.seen = (0, 0)
        self.own = False
        self.owner: Owner | None = None
        self.lookups = 0
        self.children = 0
        self.handles: list[int] | None = None  # a list of its own for each would be a quarter of a node's memory
        self.aliases: dict[tuple[Node, bytes], None] | None = None
        self.gone = False
        self.aside: bytes | None = None
        self.version = 0
        self.rdev: int | None = None
        self.default_acl: bytes | None = None
        self.fixed = False
        self.slow = False
        self.snapshot: Snapshot | None = None
        self.attributed: bool | None = None

    @property
    def real_kind(self) -> int:
        """The type of the real file."""
        return self.kind if self.rdev is None else stat.S_IFREG

    @property
    def device(self) -> Device | None:
        """The device node that the real file stands for."""
        return None if self.rdev is None else Device(self.kind, self.rdev)

    @property
    def descriptor(self) -> int | None:
        """A descriptor of the real file, if it is open by one."""
        return self.handles[0] if self.handles and self.handles[0] < TRANSIENT else None

    @property
    def descriptors(self) -> list[int]:
        """All descriptors that it is open by."""
        return [handle for handle in self.handles or () if handle < TRANSIENT]

    @property
    def settled(self) -> bool:
        """Whether it is a directory, and nobody but us changes what is in it."""
        return bool(self.dirs) and not any(layer.live for layer in self.dirs)

    @property
    def path(self) -> bytes:
        """Where it is, relative to the root; of a file with hard links one of the places."""
        names = [above.name for above in self.lineage() if above.parent is not None]
        return b"/".join(reversed(names))

    def path_of(self, name: bytes) -> bytes:
        """Where `name` in this directory is, relative to the root."""
        path = self.path
        return path + b"/" + name if path else name

    def lineage(self) -> Iterator[Node]:
        """This node and those above it, up to the root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent


class Numbers:
    """Inode numbers from real ones. `tell` is called with each new device: its place, from 0, and number, and what the
    inode numbers of its files begin with.
    """

    __slots__ = ("_fresh", "_tags", "_tell")

    def __init__(self, tell: Callable[[int, int, int], None]) -> None:
        self._tell = tell
        self._tags: dict[int, int] = {}
        self._fresh = 0

    def derive(self, key: Key) -> int:
        """The number for the file with this (st_dev, st_ino)."""
        device, real = key
        tag = self._tags.get(device)
        if tag is None:
            tag = self._new_tag(device)
        return tag | ((real ^ (real >> _LOW_BITS)) & _LOW_MASK)

    def fresh(self) -> int:
        """A number that no file was given before."""
        self._fresh += 1
        return _FRESH_TAG | self._fresh

    def _new_tag(self, device: int) -> int:
        taken = set(self._tags.values())
        # Knuth's multiplicative hash: devices are mostly small numbers in a row.
        tag = (device * 0x9E3779B97F4A7C15 >> 40) % (_TAGS - 1) + 1
        while tag << _LOW_BITS in taken and len(taken) < _TAGS - 1:
            tag = tag % (_TAGS - 1) + 1
        self._tell(len(self._tags), device, tag << _LOW_BITS)
        self._tags[device] = tag << _LOW_BITS
        return self._tags[device]


class Table:
    """All nodes that somebody refers to: the kernel by look-ups, nodes beneath by their `parent`.

    Directories are found by their place, as one real directory may be seen at two (bind mounts) and each is a
    directory of its own here. All else is found by (st_dev, st_ino): hard links are one file. `released` is called
    with each node that nobody refers to any more.
    """

    def __init__(self, released: Callable[[Node], None], numbers: Numbers) -> None:
        self.nodes: dict[int, Node] = {}
        self.opened: Callable[[Node, int], None] = lambda *_: None
        self._released = released
        self._places: dict[tuple[Node, bytes], Node] = {}
        self._keys: dict[Key, Node] = {}
        self._most = 0  # nodes since the tables were made, and since there were few
        self._most_of_all = 0
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.nodes)

    def directory(self, parent: Node, name: bytes) -> Node | None:
        """The known directory at this place."""
        return self._places.get((parent, name))

    def file(self, key: Key) -> Node | None:
        """The known file, which isn't a directory, of this key."""
        return self._keys.get(key)

    def add(self, node: Node, number: int) -> None:
        """Take a new node in, with `number` if that is free and with a fresh number if not. What only the helper has
        known of the same file goes over to it.
        """
        stub = SHORTCUT.stub(number)
        taken = number in self.nodes or number <= ROOT or (stub is not None and stub.key != node.key)
        node.ino = self.numbers.fresh() if taken else number
        self.nodes[node.ino] = node
        SHORTCUT.know(node.ino)
        self._most = max(self._most, len(self.nodes))
        self._most_of_all = max(self._most_of_all, self._most)
        if node.parent is not None:
            node.parent.children += 1
        self.attach(node)
        if stub is not None and not taken:
            node.lookups += stub.lookups
            for descriptor in SHORTCUT.drop_stub(number):
                self.opened(node, descriptor)

    def attach(self, node: Node) -> None:
        """Let a node be found by its place or key."""
        if node.kind != stat.S_IFDIR:
            self._keys[node.key] = node
        elif node.parent is not None:
            self._places[node.parent, node.name] = node

    def rekey(self, node: Node, key: Key) -> None:
        """Note that a node's real file is another one now, as after a copy-up."""
        if self._keys.get(node.key) is node:
            del self._keys[node.key]
            self._keys[key] = node
        node.key = key

    def detach(self, node: Node) -> None:
        """Find this node by its number only from now on: what is at its place or key is another file."""
        if self._keys.get(node.key) is node:
            del self._keys[node.key]
        if node.parent is not None and self._places.get((node.parent, node.name)) is node:
            del self._places[node.parent, node.name]

    def move(self, node: Node, parent: Node, name: bytes) -> None:
        """Give a node a new place instead of its first one."""
        before = node.parent
        found = before is not None and self._places.get((before, node.name)) is node
        if found and before is not None:
            del self._places[before, node.name]
        node.parent, node.name = parent, name
        if found:
            self._places[parent, name] = node
        parent.children += 1
        if before is not None:
            before.children -= 1
            self.settle(before)

    def rename(self, node: Node, old: tuple[Node, bytes], new: tuple[Node, bytes]) -> None:
        """One of the names of a node is another one now."""
        if node.aliases is not None and old in node.aliases:
            self.drop_name(node, *old)
            self.add_alias(node, *new)
        else:
            self.move(node, *new)

    def exchange(self, one: Node, place: tuple[Node, bytes], other: Node, other_place: tuple[Node, bytes]) -> None:
        """Two nodes have taken each other's place."""
        self.detach(other)
        self.rename(one, place, other_place)
        self.rename(other, other_place, place)
        self.attach(other)

    def add_alias(self, node: Node, parent: Node, name: bytes) -> None:
        """Note one more name of a file with hard links."""
        if node.parent is parent and node.name == name:
            return
        if node.aliases is None:
            node.aliases = {}
        if (parent, name) not in node.aliases:
            node.aliases[parent, name] = None
            parent.children += 1

    def drop_name(self, node: Node, parent: Node, name: bytes) -> bool:
        """Forget one name of a node. Returns whether another one is known; if not, the node stays where it was."""
        aliases = node.aliases
        if aliases is not None and (parent, name) in aliases:
            del aliases[parent, name]
            parent.children -= 1
            return True
        if node.parent is not parent or node.name != name or not aliases:
            return False
        (other, known), _ = aliases.popitem()
        other.children -= 1
        self.move(node, other, known)
        return True

    def forget(self, node: Node, count: int) -> None:
        """Take `count` look-ups back, and let the node go if nobody refers to it then."""
        node.lookups -= count
        self.settle(node)

    def settle(self, node: Node) -> None:
        """Let a node go if nobody refers to it, then those above it that were only kept for its sake."""
        waiting = [node]
        while waiting:
            last = waiting.pop()
            if last.lookups > 0 or last.children > 0 or last.handles or last.ino == ROOT or last.ino not in self.nodes:
                continue
            self.detach(last)
            del self.nodes[last.ino]
            SHORTCUT.unknow(last.ino)
            self._released(last)
            above = [parent for parent, _ in last.aliases] if last.aliases else []
            if last.parent is not None:
                above.append(last.parent)
            for parent in above:
                parent.children -= 1
            waiting += above

    def shrink(self) -> bool:
        """Make the tables anew if there is much less in them than there was: a dict keeps the room that it once took.
        Returns whether they were.
        """
        if len(self.nodes) >= self._most // 8 or self._most_of_all <= _MANY:
            return False
        self.nodes, self._places, self._keys = dict(self.nodes), dict(self._places), dict(self._keys)
        self._most = len(self.nodes)
        if self._most < _FEW:
            self._most_of_all = self._most
        return True
