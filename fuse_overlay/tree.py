"""The merged tree as it stands: what a name means over all layers, and what is shown of it."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay import merge, stubs, whiteout
from fuse_overlay import xattrs as names
from fuse_overlay.attributes import File, Store, carries
from fuse_overlay.entries import Entry, Found, Missing, check_name
from fuse_overlay.errors import OverlayError, failure
from fuse_overlay.extended import Extended
from fuse_overlay.hiding import Hiding
from fuse_overlay.inodes import ROOT, Node, Numbers, Table
from fuse_overlay.kernel.shortcut import FINDABLE, LISTED, MODED, OFFERED, RECORDED, SETTABLE, SHORTCUT, WHOLE
from fuse_overlay.layers import (
    ABSENT,
    Budget,
    Directories,
    Layer,
    at,
    at_fd,
    is_opaque_self,
    open_layers,
    scan,
)
from fuse_overlay.mounts import Mounts
from fuse_overlay.origin import parse as parse_origin
from fuse_overlay.ownership import IdMap, Owner, RealIdMap
from fuse_overlay.quota import Quota
from fuse_overlay.records import Records
from fuse_overlay.reserve import Reserve

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuse_overlay.ahead import Known
    from fuse_overlay.config import Config
    from fuse_overlay.index import Attributes
    from fuse_overlay.inodes import Key
    from fuse_overlay.links import Links
    from fuse_overlay.policy import ReadOnlyPaths


class Tree:
    """All layers as one tree, read only.

    `origins` holds the inode numbers of upper files that were copied up.
    `close_kept` closes a file that nobody has open. `fixed`: the paths that nobody may change,
    if there are any. `quota`: what the upper holds and may hold. `work`: the work directory's descriptor, -1 without.
    `known`: what was found out for the request that is being answered (ahead.py). `close_later`: how to close what may
    keep the one who closes it waiting.
    """

    def __init__(self, config: Config, budget: Budget, mounts: Mounts | None = None) -> None:
        self.layers = open_layers(config)
        self.upper = self.layers[0] if config.upper is not None else None
        self.directories = Directories(budget)
        self.mounts = mounts if mounts is not None else Mounts()
        self._euid = os.geteuid()
        id_map = RealIdMap if config.real_ids else IdMap
        self.uids = id_map([self._euid], config.own_uid, config.uids)
        self.gids = id_map([os.getegid(), *config.own_groups], config.own_gid, config.gids)
        self.origins: dict[Key, int] = {}
        self.stored_origins = self.upper is not None
        self.store = Store()
        self.extended = Extended(self.store, self.uids, self.gids)
        self.records = Records(self.uids, self.gids, self.store, self.upper)
        self.table = Table(self._released, Numbers(SHORTCUT.show_device))
        self.links: Links | None = None
        self.relink: Callable[[Node, bytes, os.stat_result], bool] | None = None
        self.close_kept: Callable[[Node], None] = lambda _: None
        try:
            self._hiding = Hiding(config)
        except ValueError as error:
            raise OverlayError(f"cannot hide: {error}") from None
        self.fixed: ReadOnlyPaths | None = None
        self.quota = Quota(config.bytes_max, config.inodes_max, self._reserve(config))
        self.work = -1
        self.known: Known | None = None
        self.close_later: Callable[[int], None] = os.close
        self.root = self._make_root()

    def _reserve(self, config: Config) -> Reserve | None:
        upper = self.upper
        if upper is None or not (config.bytes_kept or config.inodes_kept):
            return None
        return Reserve(config.bytes_kept, config.inodes_kept, lambda: os.statvfs(at_fd(upper.root.fd)), SHORTCUT)

    def use(self, work: int, *, xattrs: bool, devices: bool) -> None:
        """Learn of the work directory, of what the upper's file system can do, and so what can be in the upper."""
        self.work = work
        if self.upper is None:
            return
        self.upper.xattrs = xattrs
        if not os.listdir(at(self.upper.root.fd, b".")):
            self.upper.dot_marks = not (devices and xattrs)
            self.stored_origins = False

    def use_links(self, links: Links, relink: Callable[[Node, bytes, os.stat_result], bool]) -> None:
        """Learn of the copies of lower files with several names.

        `relink` makes a name, of a lower file with this stat result, a name of its copy; False if it has none.
        """
        self.links = links
        self.relink = relink

    def close(self) -> None:
        """Close all descriptors of layers and directories."""
        self.mounts.close()
        self.directories.close_all()
        for layer in self.layers:
            os.close(layer.root.fd)

    def node(self, ino: int) -> Node:
        """The node of this number. Raises OSError ESTALE."""
        node = self.table.nodes.get(ino) or stubs.adopt(self, ino)
        if node is None:
            raise failure(errno.ESTALE)
        return node

    def resolve(self, parent: Node, name: bytes, first: int = 0) -> Found | Missing:
        """Find what `name` in the directory `parent` stands for, from its layer number `first` down."""
        source: Layer | None = None
        top: os.stat_result | None = None
        dirs: list[Layer] = []
        keys: list[Key] = []
        live = False
        hidden: bytes | None = None
        last = len(parent.dirs) - 1
        for position in range(first, last + 1):
            layer = parent.dirs[position]
            live = live or layer.live
            if layer.mark_names and whiteout.is_mark(name):
                continue
            try:
                if self.known is None:
                    fd, device, _ = self.directories.get(parent, layer)
                    st = layer.stat(fd, name)
                else:
                    fd, device, st = self._known_stat(self.known, parent, layer, name)
            except OSError as error:
                if layer.writable or error.errno not in ABSENT:
                    raise
                continue
            if st is None or (layer.marks and layer.is_whiteout(fd, name, st)):
                if st is not None or (layer.marks and position < last and layer.has_mark(fd, name)):
                    break
                continue
            if self._hiding.active and (asked := self._hiding.hides(layer, parent, name, st)) is not None:
                hidden = asked
                continue
            is_directory = stat.S_ISDIR(st.st_mode)
            if not is_directory:
                if source is None:
                    return Found(layer, st, (), (), layer.live)
                break
            if source is None or top is None:
                source, top = layer, st
            if not layer.marks and st.st_dev != device and self.mounts.is_pseudo(st.st_dev):
                break  # shown, but nothing of what is in it
            dirs.append(layer)
            keys.append((st.st_dev, st.st_ino))
            if position < last and layer.marks and (layer.is_opaque(fd, name) or layer.has_mark(fd, name)):
                break
        if source is None or top is None:
            return Missing(live, hidden)
        return Found(source, top, tuple(dirs), tuple(keys), live)

    def find(self, parent: Node, name: bytes, first: int = 0) -> Found | Missing:
        """What `resolve` finds, after a lower file that has a copy under another of its names got this one too."""
        found = self.resolve(parent, name, first)
        if self.relink is None or isinstance(found, Missing) or found.st.st_nlink == 1 or found.source is self.upper:
            return found
        if stat.S_ISDIR(found.st.st_mode) or self.is_fixed(parent, name):
            return found
        if not self.relink(parent, name, found.st):
            return found
        return self.resolve(parent, name)

    def lookup(self, parent: Node, name: bytes) -> Entry | Missing:
        """Find `name` in `parent`, as the kernel does. Raises OSError."""
        check_name(name)
        return self.enter(parent, name)

    def enter(self, parent: Node, name: bytes, first: int = 0, owner: Owner | None = None) -> Entry | Missing:
        """The entry for a name that is known to be good, and its node in the table. `owner`, if that is known."""
        found = self.find(parent, name, first)
        if isinstance(found, Missing):
            return found
        node = self.adopt(parent, name, found)
        if owner is not None:
            node.owner = owner
        # Of the directory, only records are read.
        fd = self.directories.get(parent, found.source).fd if found.source.records else -1
        return self._entry(node, found.st, found.live, fd, name)

    def require(self, parent: Node, name: bytes) -> Node:
        """The node at a name. Raises OSError ENOENT."""
        return self.locate(parent, name)[0]

    def locate(self, parent: Node, name: bytes) -> tuple[Node, os.stat_result]:
        """The node at a name, and what its real file is. Raises OSError ENOENT."""
        check_name(name)
        found = self.find(parent, name)
        if isinstance(found, Missing):
            raise failure(errno.ENOENT)
        return self.adopt(parent, name, found), found.st

    def made(self, parent: Node, name: bytes, st: os.stat_result, owner: Owner) -> Entry:
        """The entry of a new file of the upper, but no directory, that is `st`."""
        key = (st.st_dev, st.st_ino)
        before = self.table.file(key)
        if before is not None:
            self.table.detach(before)  # it is gone, and its inode number is the new one's
        self.origins.pop(key, None)
        node = Node(0, stat.S_IFMT(st.st_mode), key, parent, name, self.layers[0])
        node.own = st.st_uid == self._euid
        node.owner = owner
        node.fixed = self.is_fixed(parent, name)
        self.table.add(node, self.table.numbers.derive(key))
        return Entry(node, st, owner, self._link_count(node, st), False, False)

    def attributes(self, node: Node) -> Entry:
        """What is shown of a node now. Raises OSError."""
        known = None if self.known is None else self.found_out(node)
        if (fd := node.descriptor) is not None:
            st = os.fstat(fd) if known is None else known
            if node.owner is None and not node.source.xattrs and not node.gone:
                return self._entry(node, st, False, *self.place(node))
            return self._entry(node, st, False, fd)
        directory, name = self.place(node)
        st = os.stat(name, dir_fd=directory, follow_symlinks=False) if known is None else known
        if (st.st_dev, st.st_ino) != node.key:
            raise failure(errno.ESTALE)  # somebody put another file there
        return self._entry(node, st, False, directory, name)

    def found_out(self, node: Node) -> os.stat_result | None:
        """What the real file of a node is, if that was found out of the one that it is now."""
        st = None if self.known is None else self.known.nodes.get(node)
        return st if st is not None and (st.st_dev, st.st_ino) == node.key else None

    def show(self, node: Node) -> None:
        """Let the helper say what is shown of an open file or held directory, and what is in one layer's alone."""
        if node.gone or node.owner is None or node.source.live or node.slow:
            return
        links, may = 0, LISTED if node.settled else 0
        fd = node.descriptor
        if fd is not None:
            if node.source.writable and not node.fixed and not self.quota.active:
                may = SETTABLE
                may |= MODED if self.records.follows_mode(node.source, node.kind, node.owner) else 0
        elif node.dirs:
            fd, links = self.directories.held(node, node.source), self._merged_links(node)
            may |= WHOLE if not links else 0
            if may & WHOLE and self.is_findable(node):
                may |= FINDABLE | (RECORDED if node.source.records else 0) | (0 if self.quota.active else OFFERED)
        if fd is not None and fd >= 0 and not (node.dirs and node.source.gate):
            owner = (node.owner.uid, node.owner.gid, node.kind | node.owner.mode)
            above = (node.parent or node).ino
            SHORTCUT.show(node.ino, (node.key[0], fd), owner, links=links, may=may, above=above)

    def is_findable(self, node: Node) -> bool:
        """Whether what is in a directory, but for directories, is what one layer has there, and stays."""
        return len(node.dirs) == 1 and node.source.steady and not self._hiding.active

    def link_count(self, node: Node, known: os.stat_result | None = None) -> int:
        """The link count that is shown of a file, that is `known` if that is given. Raises OSError."""
        known = known or self.found_out(node)
        if known is not None:
            return self._link_count(node, known)
        if node.descriptor is not None:
            return self._link_count(node, os.fstat(node.descriptor))
        fd, name = self.place(node)
        return self._link_count(node, os.stat(name, dir_fd=fd, follow_symlinks=False))

    def place(self, node: Node) -> tuple[int, bytes]:
        """The directory and the name of the real file of a node. Raises OSError ENOENT when it has none any more."""
        if node.gone:
            if node.aside is None:
                raise failure(errno.ENOENT)
            return self.work, node.aside
        if node.parent is None:
            return node.source.root.fd, b"."
        return self.directories.get(node.parent, node.source).fd, node.name

    def file(self, node: Node) -> File:
        """The real file of a node. Raises OSError."""
        fd = node.descriptor
        if fd is not None and node.gone and node.aside is None:
            return File(node.source, node.real_kind, node.key[1], fd, ())
        places = [self.place(node)]
        file = File(node.source, node.real_kind, node.key[1], at(*places[0]) if fd is None else fd, tuple(places))
        if carries(file):
            return file
        # Each of its names has a record.
        places += [(self.directories.get(parent, node.source).fd, name) for parent, name in node.aliases or ()]
        if node.aside is not None and not node.gone:
            places.append((self.work, node.aside))
        return file._replace(places=tuple(places))

    def extended_attribute(self, node: Node, name: bytes) -> bytes | None:
        """The value of the extended attribute that is `name` inside; None if there is none. Raises OSError."""
        if node.attributed is False:
            return None
        if self.known is not None and (node, name) in self.known.values:
            return self.known.values[node, name]
        file = self.file(node)
        if node.attributed is None and not node.source.live:
            shown = bool(self.extended.names(file))
            self.note_attributed(node, shown)
            if not shown:
                return None
        return self.extended.read(file, name)

    def kept(self, node: Node) -> Attributes:
        """All extended attributes that are shown of a node, under the names for a layer."""
        if self.known is not None and node in self.known.kept:
            return self.known.kept[node]
        return self.extended.kept(self.file(node))

    def note_attributed(self, node: Node, attributed: bool) -> None:
        """Note whether any extended attributes are shown of a file. It isn't a live layer's."""
        node.attributed = attributed
        if attributed:
            SHORTCUT.ask_for_attributes(node.ino)
        else:
            SHORTCUT.no_attributes(node.ino)

    def default_acl(self, node: Node) -> bytes | None:
        """The default ACL of a directory, as an attribute's value."""
        if node.default_acl is not None:
            return node.default_acl or None
        value = self.extended_attribute(node, names.ACL_DEFAULT)
        if not node.source.live:
            node.default_acl = value or b""
        return value

    def owner(self, node: Node) -> Owner:
        """The owner that is shown of a node."""
        return node.owner or self.attributes(node).owner

    def adopt(self, parent: Node, name: bytes, found: Found) -> Node:
        """The node for what was found: the known one if it is still the same file, else a new one."""
        st = found.st
        kind = stat.S_IFMT(st.st_mode)
        key = (st.st_dev, st.st_ino)
        directory = kind == stat.S_IFDIR
        node = self.table.directory(parent, name) if directory else self.table.file(key)
        if node is not None and (node.key != key or node.real_kind != kind or _has_changed(node, found)):
            self.table.detach(node)
            node = None
        if node is None:
            node = Node(0, kind, key, parent, name, found.source)
            if found.source.records:
                device = self.records.device(found.source, st, self.directories.get(parent, found.source).fd, name)
                if device is not None:
                    node.kind, node.rdev = device
            node.dirs = found.dirs
            node.own = st.st_uid == self._euid
            node.slow = bool(self.mounts.remote) and self._is_slow(found)
            if found.live:
                node.seen = (st.st_ctime_ns, st.st_size)
            number = self._number(parent, name, found, key)
            self.table.add(node, number)
            if node.ino != number:
                SHORTCUT.take_number(number)
        elif directory:
            self._update_directory(node, found)
            node.slow = bool(self.mounts.remote) and self._is_slow(found)
        elif node.gone:
            self.table.move(node, parent, name)
            SHORTCUT.hide(node.ino)
            node.gone = False
        elif st.st_nlink > 1:
            self.table.add_alias(node, parent, name)
        elif node.parent is not parent or node.name != name:
            self.table.move(node, parent, name)
            node.source = found.source  # another layer may have the same file
        node.fixed = node.fixed or self.is_fixed(parent, name)
        return node

    def own(self, node: Node) -> None:
        """Note that a directory is the upper's alone from now on."""
        SHORTCUT.hide(node.ino)
        node.dirs = node.dirs[:1]

    def is_fixed(self, parent: Node, name: bytes) -> bool:
        """Whether a name is at or beneath a read-only path."""
        if self.fixed is None:
            return False
        return parent.fixed or (name in self.fixed.names and parent.path_of(name) in self.fixed.paths)

    def scan(self, node: Node) -> dict[bytes, int]:
        """The names in a directory, each with the position in `node.dirs` of its topmost layer."""
        return merge.merge(self.scan_layer(node, layer) for layer in node.dirs)

    def is_empty(self, node: Node) -> bool:
        """Whether nothing is in a directory (what is hidden doesn't count)."""
        return all(isinstance(self.resolve(node, name), Missing) for name in self.scan(node))

    def scan_layer(self, node: Node, layer: Layer) -> merge.Scan:
        """What one of a directory's layers has in it, marks included. Raises OSError."""
        if self.known is not None and (node, layer.number) in self.known.scans:
            return self.known.scans[node, layer.number]
        return scan(lambda: self.directories.get(node, layer).fd, layer)

    def _is_slow(self, found: Found) -> bool:
        remote = self.mounts.remote
        return found.st.st_dev in remote or (bool(found.keys) and any(device in remote for device, _ in found.keys))

    def _known_stat(
        self, known: Known, parent: Node, layer: Layer, name: bytes
    ) -> tuple[int, int, os.stat_result | None]:
        """A directory's descriptor and device, and what is at a name in it. Raises OSError."""
        key = (parent, layer.number, name)
        st = known.stats.get(key)
        if isinstance(st, OSError):
            raise st
        fd, device, _ = self.directories.get(parent, layer)
        return fd, device, layer.stat(fd, name) if key not in known.stats else st

    def _entry(self, node: Node, st: os.stat_result, live: bool, fd: int, name: bytes | None = None) -> Entry:
        """The entry of a node whose real file is `name` in the directory `fd`, or open as `fd`."""
        owner = node.owner
        if owner is None:
            owner = self.records.shown(node.source, st, fd, name)
            if not node.source.live:
                node.owner = owner
        nlink = self._merged_links(node) or self._link_count(node, st)
        return Entry(node, st, owner, nlink, live, node.source.live)

    def _merged_links(self, node: Node) -> int:
        """A merged directory has link count 1, "not counted", as btrfs shows all of its; 0: it isn't one."""
        return 1 if len(node.dirs) > 1 else 0

    def _link_count(self, node: Node, st: os.stat_result) -> int:
        if node.gone and st.st_nlink == 1 and node.source is not self.upper:
            return 0  # a lower file's only name, which is gone for us
        if self.links is not None and node.kind != stat.S_IFDIR:
            return self.links.shown_count(node.key, st) - (node.aside is not None)
        return st.st_nlink

    def _update_directory(self, node: Node, found: Found) -> None:
        for layer in node.dirs:
            if layer not in found.dirs:
                self.directories.close(node, layer)
        for layer, (device, real) in zip(found.dirs, found.keys, strict=True):
            if layer.live:
                self.directories.verify(node, layer, device, real)
        if node.dirs != found.dirs:
            SHORTCUT.hide(node.ino)
        node.dirs = found.dirs

    def _number(self, parent: Node, name: bytes, found: Found, key: Key) -> int:
        origin = self.origins.get(key)
        if origin is None and found.source.writable and self.stored_origins:
            directory = self.directories.get(parent, found.source).fd
            kind = stat.S_IFMT(found.st.st_mode)
            file = File(found.source, kind, key[1], at(directory, name), ((directory, name),))
            value = self.store.read(file, names.ORIGIN)
            known = parse_origin(value) if value is not None else None
            if known is not None:
                origin = known.number
        if origin is None:
            return self.table.numbers.derive(key)
        SHORTCUT.take_number(origin)
        return origin

    def _make_root(self) -> Node:
        first = self.layers[0]
        root = Node(ROOT, stat.S_IFDIR, first.root[1:], None, b"", first)
        count = next((place + 1 for place, layer in enumerate(self.layers) if is_opaque_self(layer)), len(self.layers))
        root.dirs = tuple(self.layers[:count])
        root.slow = any(layer.root.dev in self.mounts.remote for layer in root.dirs)
        self.table.nodes[ROOT] = root
        return root

    def _released(self, node: Node) -> None:
        if node.attributed is False:
            SHORTCUT.ask_for_attributes(node.ino)
        SHORTCUT.hide(node.ino)
        for layer in node.dirs:
            self.directories.close(node, layer)


def _has_changed(node: Node, found: Found) -> bool:
    """Whether a live file isn't what the kernel learnt of it.

    With the writeback cache the kernel takes no new size and times of a file that it knows (fuse_change_attributes
    in fs/fuse/inode.c), and with FUSE_CACHE_SYMLINKS no new target of a link, so such a file must become another one,
    as if it had been replaced.
    """
    if not found.live or node.kind not in (stat.S_IFREG, stat.S_IFLNK):
        return False
    return node.seen != (found.st.st_ctime_ns, found.st.st_size)
