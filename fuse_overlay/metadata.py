"""Changes of attributes and extended attributes."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay import acl, ownership, xattrs
from fuse_overlay.attributes import carries
from fuse_overlay.errors import failure
from fuse_overlay.layers import at
from fuse_overlay.times import move_ctime
from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from fuse_overlay.copyup import CopyUp
    from fuse_overlay.creation import Caller
    from fuse_overlay.entries import Entry
    from fuse_overlay.inodes import Node
    from fuse_overlay.layers import Real
    from fuse_overlay.privileges import Privileges
    from fuse_overlay.tree import Tree


class Wanted(NamedTuple):
    """The attributes that setattr is to change; None: left as it is. Times in nanoseconds, the size in bytes.

    Without any, it is what a write takes away (privileges.py) that is to go: so the kernel says it beforehand, with
    FATTR_KILL_SUIDGID, which pyfuse3 doesn't hand on.
    """

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime: int | None = None
    mtime: int | None = None


class Metadata:
    """Reads and changes what is known about files. `copyup` is None in a read-only overlay."""

    def __init__(self, tree: Tree, copyup: CopyUp | None, privileges: Privileges) -> None:
        self._tree = tree
        self._copyup = copyup
        self._privileges = privileges

    def change(self, node: Node, wanted: Wanted) -> Entry:
        """Change attributes. Raises OSError; EACCES when that takes a copy of data which the user may not read."""
        before = self._tree.attributes(node)
        if wanted == Wanted() and node.source.writable:
            self._privileges.obey(node)
            return self._tree.attributes(node)
        timed = wanted.atime is not None or wanted.mtime is not None
        if _changed_owner(node.kind, before.owner, wanted) != before.owner or timed or wanted.size is not None:
            self._to_upper(node, wanted.size)
        if wanted.size is not None:
            self._truncate(node, wanted.size)
            self._revoke(node)
        owner = _changed_owner(node.kind, self._tree.owner(node), wanted)
        if owner != before.owner or (node.source.writable and wanted[:3] != (None, None, None)):
            self._change_owner(node, owner, wanted)  # even to what it was: that is a change too (st_ctime)
        if timed:
            self._set_times(node, before.st, wanted)
        return self._tree.attributes(node)

    def read(self, node: Node, name: bytes) -> bytes:
        """The value of an extended attribute. Raises OSError ENODATA if there is none."""
        if xattrs.kept_as(name) is None:
            raise failure(xattrs.absence(name))
        value = self._tree.extended_attribute(node, name)
        if value is None:
            raise failure(errno.ENODATA)
        return value

    def names(self, node: Node) -> list[bytes]:
        """The names of the extended attributes that are shown."""
        if self._tree.known is not None and node in self._tree.known.names:
            return self._tree.known.names[node]
        return self._tree.extended.names(self._tree.file(node))

    def write(self, node: Node, name: bytes, value: bytes, caller: Caller) -> None:
        """Set an extended attribute. Raises OSError."""
        kept = self._kept_as(name)
        if name in (xattrs.ACL_ACCESS, xattrs.ACL_DEFAULT):
            self._set_acl(node, name, value, caller)
            return
        self._to_upper(node, None)
        self._tree.quota.require(len(value))
        self._tree.note_attributed(node, True)
        self._change(node, kept, value)

    def remove(self, node: Node, name: bytes) -> None:
        """Remove an extended attribute. Raises OSError; for an ACL that isn't there, it doesn't (acl(5))."""
        kept = self._kept_as(name)
        if self._tree.extended_attribute(node, name) is None:
            if name in (xattrs.ACL_ACCESS, xattrs.ACL_DEFAULT):
                return
            raise failure(errno.ENODATA)
        self._to_upper(node, None)
        self._change(node, kept, None)
        node.default_acl = None

    def _change(self, node: Node, kept_as: bytes, value: bytes | None) -> None:
        file = self._tree.file(node)
        self._tree.store.change(file, {kept_as: value})
        if not carries(file):
            move_ctime(file.real)

    def _kept_as(self, name: bytes) -> bytes:
        kept = xattrs.kept_as(name)
        if kept is None:
            raise failure(xattrs.refusal(name))
        return kept

    def _set_acl(self, node: Node, name: bytes, value: bytes, caller: Caller) -> None:
        """Set an ACL; with that of access goes the mode, which is all that is kept when it says the same.

        setgid goes when the caller is neither root nor of the file's group (posix_acl_update_mode in fs/posix_acl.c).
        Where the kernel doesn't say which, supplementary groups don't count: nobody else could tell us of them.
        """
        parsed = acl.parse(value)
        if parsed is None:
            raise failure(errno.EINVAL)
        if node.kind == stat.S_IFLNK or (name == xattrs.ACL_DEFAULT and node.kind != stat.S_IFDIR):
            raise failure(errno.EOPNOTSUPP if node.kind == stat.S_IFLNK else errno.EACCES)
        self._to_upper(node, None)
        is_needed = name == xattrs.ACL_DEFAULT or not acl.is_minimal(parsed)
        self._tree.note_attributed(node, True)
        self._change(node, self._kept_as(name), value if is_needed else None)
        node.default_acl = None
        if name == xattrs.ACL_ACCESS:
            owner = self._tree.owner(node)
            mode = acl.mode_of(parsed, owner.mode)
            stranger = caller.uid != 0 and caller.gid != owner.gid
            if stranger if caller.drops_setgid is None else caller.drops_setgid:
                mode &= ~stat.S_ISGID
            self._privileges.set_owner(node, owner._replace(mode=mode))

    def _revoke(self, node: Node) -> None:
        self._privileges.revoke_capability(node)
        self._privileges.revoke_setuid(node)

    def _to_upper(self, node: Node, length: int | None) -> None:
        if self._copyup is None:
            raise failure(errno.EROFS)
        self._copyup.node(node, length)

    def _real(self, node: Node) -> Real:
        """The real file: of an open one its descriptor, which is good when it has lost its name too."""
        return at(*self._tree.place(node)) if node.descriptor is None else node.descriptor

    def _truncate(self, node: Node, size: int) -> None:
        if node.descriptor is not None:
            os.ftruncate(node.descriptor, size)
            return
        directory, name = self._tree.place(node)
        fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    def _set_times(self, node: Node, before: os.stat_result, wanted: Wanted) -> None:
        atime = before.st_atime_ns if wanted.atime is None else wanted.atime
        mtime = self._tree.attributes(node).st.st_mtime_ns if wanted.mtime is None else wanted.mtime
        file = self._real(node)
        os.utime(file, ns=(atime, mtime), follow_symlinks=isinstance(file, int))

    def _change_owner(self, node: Node, owner: ownership.Owner, wanted: Wanted) -> None:
        """Change owner or mode. A new owner takes capabilities away too, and a mode is an ACL's as well."""
        self._privileges.set_owner(node, owner)
        if wanted.uid is not None or wanted.gid is not None:
            self._privileges.revoke_capability(node)
        if wanted.mode is None or node.kind == stat.S_IFLNK:
            return
        value = self._tree.extended_attribute(node, xattrs.ACL_ACCESS)
        access = acl.parse(value) if value is not None else None
        if access is not None:
            file = self._tree.file(node)
            changed = acl.format_value(acl.after_chmod(access, owner.mode))
            self._tree.store.change(file, {self._kept_as(xattrs.ACL_ACCESS): changed})


def _changed_owner(kind: int, owner: ownership.Owner, wanted: Wanted) -> ownership.Owner:
    """The owner after a change; a new user or group takes setuid and setgid away unless a mode is set with it."""
    mode = owner.mode
    if wanted.mode is not None:
        mode = wanted.mode & ownership.MODE_BITS
    elif wanted.uid is not None or wanted.gid is not None:
        mode = ownership.without_privilege(kind, mode)
    return ownership.Owner(
        owner.uid if wanted.uid is None else wanted.uid, owner.gid if wanted.gid is None else wanted.gid, mode
    )
