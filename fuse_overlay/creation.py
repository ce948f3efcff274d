"""What a new file is: its owner, its mode and the ACLs that it inherits."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from fuse_overlay import acl, ownership, xattrs
from fuse_overlay.ownership import Owner
from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from fuse_overlay.index import Attributes


class Caller(NamedTuple):
    """Who makes a file: ids inside, and the umask, which counts where no default ACL does.

    `drops_setgid`: whether an ACL that is set takes setgid away, being by no member of the file's group; None: it isn't
    known.
    """

    uid: int = 0
    gid: int = 0
    umask: int = 0
    drops_setgid: bool | None = None


ROOT = Caller()


class New(NamedTuple):
    """A file to be made: its type (S_IFMT bits), its owner, and the attributes to keep with it."""

    kind: int
    owner: Owner
    attributes: Attributes


def of_new(mode: int, caller: Caller, parent: Owner, default: bytes | None) -> New:
    """What a file is that is made with `mode`, type bits included, in a directory of this owner and default ACL.

    In a setgid directory the group is the directory's, and directories inherit the bit (inode(7)). A default ACL takes
    the umask's place (umask(2), acl(5)).
    """
    kind = stat.S_IFMT(mode)
    bits = mode & ownership.MODE_BITS
    inherited = acl.parse(default) if default is not None and kind != stat.S_IFLNK else None
    attributes: Attributes = {}
    if inherited is not None and default is not None:
        access, bits = acl.of_new(inherited, bits)
        if not acl.is_minimal(access):
            _keep(attributes, xattrs.ACL_ACCESS, acl.format_value(access))
        if kind == stat.S_IFDIR:
            _keep(attributes, xattrs.ACL_DEFAULT, default)
    elif kind != stat.S_IFLNK:
        bits &= ~caller.umask
    gid = caller.gid
    if parent.mode & stat.S_ISGID:
        gid = parent.gid
        if kind == stat.S_IFDIR:
            bits |= stat.S_ISGID
    return New(kind, Owner(caller.uid, gid, bits), attributes)


def _keep(attributes: Attributes, name: bytes, value: bytes) -> None:
    kept = xattrs.kept_as(name)
    if kept is not None:
        attributes[kept] = value
