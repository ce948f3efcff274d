"""Who owns the files of layers: what their records say, or else the real owner and mode."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay import ownership
from fuse_overlay.attributes import File
from fuse_overlay.errors import failure
from fuse_overlay.kernel.shortcut import SHORTCUT
from fuse_overlay.layers import at

if TYPE_CHECKING:
    from fuse_overlay.attributes import Store
    from fuse_overlay.index import Attributes
    from fuse_overlay.layers import Layer
    from fuse_overlay.ownership import Device, IdMap, Owner


class Records:
    """Reads and writes the owners of files, and which ones stand for a device node."""

    def __init__(self, uids: IdMap, gids: IdMap, store: Store, upper: Layer | None) -> None:
        self._uids = uids
        self._gids = gids
        self._store = store
        self._upper = upper
        # One Owner for all files of the same ids and mode.
        self._plain: dict[tuple[int, int, int], Owner] = {}

    def shown(self, layer: Layer, st: os.stat_result, fd: int, name: bytes | None = None) -> Owner:
        """The owner to show for a file of `layer`: `name` in the directory `fd`, or the open file `fd` itself."""
        if layer.records:
            value = self._read(layer, st, fd, name)
            record = ownership.parse_record(value) if value is not None else None
            if record is not None:
                uid, gid, mode = record
                recorded = ownership.Owner(self._uids.admitted(uid), self._gids.admitted(gid), mode)
                SHORTCUT.show_ids((uid, recorded.uid), (gid, recorded.gid), recorded=True)
                return recorded
        plain = (st.st_uid, st.st_gid, st.st_mode & ownership.MODE_BITS)
        owner = self._plain.get(plain)
        if owner is None:
            owner = ownership.Owner(self._uids.shown(plain[0]), self._gids.shown(plain[1]), plain[2])
            self._plain[plain] = owner
            SHORTCUT.show_ids((plain[0], owner.uid), (plain[1], owner.gid))
        return owner

    def device(self, layer: Layer, st: os.stat_result, fd: int, name: bytes) -> Device | None:
        """The device node that a file stands for. It is an empty regular file, with a record that says so."""
        if not layer.records or st.st_size or not stat.S_ISREG(st.st_mode):
            return None
        value = self._read(layer, st, fd, name)
        return ownership.parse_device(value) if value is not None else None

    def needed(self, kind: int, owner: Owner) -> bool:
        """Whether a file of this kind that shows this owner needs a record beside its real mode."""
        if owner.uid != self._uids.own or owner.gid != self._gids.own or kind in (stat.S_IFCHR, stat.S_IFBLK):
            return True
        return kind != stat.S_IFLNK and owner.mode != ownership.real_mode(kind, owner.mode)

    def follows_mode(self, layer: Layer, kind: int, owner: Owner) -> bool:
        """Whether a file of the upper, of this kind and with this owner, shows its real mode, whatever that becomes, as
        long as it has no record.
        """
        beside = layer.foreign_records or isinstance(self._uids, ownership.RealIdMap)
        return kind == stat.S_IFREG and not beside and not self.needed(kind, owner)

    def check(self, owner: Owner) -> None:
        """Raises OSError EINVAL for an owner that doesn't exist inside."""
        if not (self._uids.exists(owner.uid) or owner.uid == self._uids.own):
            raise failure(errno.EINVAL)
        if not (self._gids.exists(owner.gid) or owner.gid == self._gids.own):
            raise failure(errno.EINVAL)

    def write(self, file: File, owner: Owner, device: Device | None = None) -> None:
        """Record the owner of an upper file, or remove a record that isn't needed.

        Raises OSError; EINVAL for an id that doesn't exist inside.
        """
        self.check(owner)
        if isinstance(self._uids, ownership.RealIdMap) and isinstance(self._gids, ownership.RealIdMap):
            _give(file, self._uids.hosts(owner.uid), self._gids.hosts(owner.gid), owner.mode)
        elif device is not None or self.needed(file.kind, owner):
            self.begin()
            self._store.change(file, {ownership.XATTR: ownership.format_record(owner, device)})
        elif file.layer.records:
            self._store.change(file, {ownership.XATTR: None})
            if file.layer.foreign_records:
                self._store.change(file, {ownership.FOREIGN_XATTR: None})

    def of_new(self, kind: int, owner: Owner, device: Device | None = None) -> Attributes:
        """The attributes to give a new file of the upper, so that it shows this owner and device node.

        Raises OSError; EINVAL for an id that doesn't exist inside.
        """
        self.check(owner)
        if device is None and not self.needed(kind, owner):
            return {}
        self.begin()
        return {ownership.XATTR: ownership.format_record(owner, device)}

    def begin(self) -> None:
        """Give the upper's root a record before anything else: it says that files of this layer may have some."""
        if self._upper is None or self._upper.records:
            return
        root = self._upper.root
        mode = os.fstat(root.fd).st_mode & ownership.MODE_BITS
        own = ownership.Owner(self._uids.own, self._gids.own, mode)
        file = File(self._upper, stat.S_IFDIR, root.ino, at(root.fd, b"."), ((root.fd, b"."),))
        self._store.change(file, {ownership.XATTR: ownership.format_record(own)})
        self._upper.records = True

    def _read(self, layer: Layer, st: os.stat_result, fd: int, name: bytes | None) -> bytes | None:
        if name is None:
            file = File(layer, stat.S_IFMT(st.st_mode), st.st_ino, fd, ())
        else:
            file = File(layer, stat.S_IFMT(st.st_mode), st.st_ino, at(fd, name), ((fd, name),))
        value = self._store.read(file, ownership.XATTR)
        if value is None and layer.foreign_records:
            return self._store.read(file, ownership.FOREIGN_XATTR)
        return value


def _give(file: File, uid: int, gid: int, mode: int) -> None:
    """Have a file belong to ids of the host, with these mode bits: after the owner, whose change takes some away."""
    follow = isinstance(file.real, int)
    os.chown(file.real, uid, gid, follow_symlinks=follow)
    if file.kind != stat.S_IFLNK:
        os.chmod(file.real, mode)
