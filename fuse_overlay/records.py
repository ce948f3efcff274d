"""Where the owners of upper files are kept: in an xattr of the file, or in memory where it can't have one."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay import ownership
from fuse_overlay.layers import at, read_xattr

if TYPE_CHECKING:
    from fuse_overlay.inodes import Key
    from fuse_overlay.layers import Layer, Real
    from fuse_overlay.ownership import IdMap, Owner

# xattr(7): user.* attributes are for regular files and directories only.
_CARRIERS = (stat.S_IFREG, stat.S_IFDIR)


class Records:
    """Reads and writes the owners of files.

    What symbolic links, FIFOs and sockets can't carry, and what no file can on file systems without user.* attributes
    (NFS), is in `_memory` by (st_dev, st_ino): it lasts as long as the server runs.
    """

    def __init__(self, uids: IdMap, gids: IdMap, upper: Layer | None, xattrs: bool) -> None:
        self._uids = uids
        self._gids = gids
        self._upper = upper
        self._xattrs = xattrs
        self._memory: dict[Key, Owner] = {}
        # One Owner for all files of the same ids and mode.
        self._plain: dict[tuple[int, int, int], Owner] = {}

    def shown(self, layer: Layer, st: os.stat_result, fd: int, name: bytes | None = None) -> Owner:
        """The owner to show for a file of `layer`: `name` in the directory `fd`, or the open file `fd` itself."""
        if layer.records and stat.S_IFMT(st.st_mode) in _CARRIERS:
            value = read_xattr(fd if name is None else at(fd, name), ownership.XATTR)
            record = ownership.parse_record(value) if value is not None else None
            if record is not None:
                return self._admitted(record)
        if layer.writable and self._memory:
            remembered = self._memory.get((st.st_dev, st.st_ino))
            if remembered is not None:
                return remembered
        plain = (st.st_uid, st.st_gid, st.st_mode & ownership.MODE_BITS)
        owner = self._plain.get(plain)
        if owner is None:
            owner = ownership.Owner(self._uids.shown(plain[0]), self._gids.shown(plain[1]), plain[2])
            self._plain[plain] = owner
        return owner

    def needed(self, kind: int, owner: Owner) -> bool:
        """Whether a file of this kind that shows this owner needs a record beside its real mode."""
        if owner.uid != self._uids.own or owner.gid != self._gids.own:
            return True
        return kind != stat.S_IFLNK and owner.mode != ownership.real_mode(kind, owner.mode)

    def write(self, real: Real, st: os.stat_result, owner: Owner) -> None:
        """Record the owner of an upper file, or remove a record that isn't needed.

        Raises OSError; EINVAL for an id that doesn't exist inside.
        """
        if not (self._uids.exists(owner.uid) or owner.uid == self._uids.own):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if not (self._gids.exists(owner.gid) or owner.gid == self._gids.own):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        kind = stat.S_IFMT(st.st_mode)
        needed = self.needed(kind, owner)
        if not self._xattrs or kind not in _CARRIERS:
            if needed:
                self._memory[st.st_dev, st.st_ino] = owner
            else:
                self._memory.pop((st.st_dev, st.st_ino), None)
        elif needed:
            self._begin()
            os.setxattr(real, ownership.XATTR, ownership.format_record(owner))
        elif self._upper is not None and self._upper.records and read_xattr(real, ownership.XATTR) is not None:
            os.removexattr(real, ownership.XATTR)

    def forget(self, key: Key) -> None:
        """The file with this (st_dev, st_ino) is gone: the number may be another file's tomorrow."""
        self._memory.pop(key, None)

    def _admitted(self, record: Owner) -> Owner:
        return record._replace(uid=self._uids.admitted(record.uid), gid=self._gids.admitted(record.gid))

    def _begin(self) -> None:
        """Give the upper's root a record before anything else: it says that files of this layer may have some."""
        if self._upper is None or self._upper.records:
            return
        root = self._upper.root.fd
        mode = os.fstat(root).st_mode & ownership.MODE_BITS
        own = ownership.Owner(self._uids.own, self._gids.own, mode)
        os.setxattr(at(root, b"."), ownership.XATTR, ownership.format_record(own))
        self._upper.records = True
