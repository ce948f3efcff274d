"""Attributes of the host's files: owner, mode, extended attributes, times."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay import xattrs
from fuse_overlay.layers import at, names_of_xattrs
from fuse_overlay.tuples import NamedTuple
from rootless_sb.review.actions import Attributes
from rootless_sb.review.changes import MODE, OWNER, XATTRS
from rootless_sb.review.layer import xattrs_of
from rootless_sb.review.owners import host_acl, inherits_group, wanted_ids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless_sb.review.changes import Change, Item
    from rootless_sb.review.layer import LayerView
    from rootless_sb.review.owners import Identity

_ACLS = (xattrs.ACL_ACCESS, xattrs.ACL_DEFAULT)


def host_xattrs(view: LayerView, change: Change, who: Identity, given: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The extended attributes for the host of a file that the sandbox sees with the `given` ones. Raises OSError.

    An ACL that the sandbox left as it was is the host's own: the sandbox may not see all of its entries, which stay in
    one that it has changed too.
    """
    if not given:
        return {}
    before = _before(view, change)
    kept = {}
    for name, value in given.items():
        if name not in _ACLS:
            kept[name] = value
            continue
        seen = before.get(name, b"")
        real = (_host_value(view, change.path, name) or b"") if seen else b""
        kept[name] = real if real and seen == value else host_acl(value, who, seen, real)
    return kept


class Above(NamedTuple):
    """An open directory in which files are made: which one of the host's it is, as the sandbox sees it, None for a new
    one; and whether what is made in it inherits ACLs.
    """

    fd: int
    item: Item | None
    has_acl: bool


def look_above(fd: int, item: Item | None) -> Above:
    """What counts of a directory, open as `fd`, in which files are to be made. Raises OSError."""
    return Above(fd, item, xattrs.ACL_DEFAULT in names_of_xattrs(at(fd, b".")))


def dress(file: int | bytes, change: Change, who: Identity, given: Mapping[bytes, bytes], above: Above) -> None:
    """Give a new file, made in `above`, what a change says, its times last. Raises OSError.

    `file`: open for writing, or a path to it. `given`: its extended attributes.
    """
    after = change.after
    assert after is not None
    follow = isinstance(file, int)
    st = os.stat(file, follow_symlinks=follow)
    uid, gid = wanted_ids(change, who)
    if change.before is None and inherits_group(after, above.item):
        gid = st.st_gid
    if (st.st_uid, st.st_gid) != (uid, gid):
        os.chown(file, uid, gid, follow_symlinks=follow)
    for name in _ACLS:
        if above.has_acl and after.kind != stat.S_IFLNK and name not in given:
            remove_xattr(file, name, follow=follow)
    for name, value in given.items():
        os.setxattr(file, name, value, follow_symlinks=follow)
    if after.kind != stat.S_IFLNK:
        os.chmod(file, after.owner.mode)
    os.utime(file, ns=(after.st.st_atime_ns, after.st.st_mtime_ns), follow_symlinks=follow)


def wanted(
    view: LayerView, change: Change, who: Identity, seen: Mapping[bytes, bytes]
) -> tuple[Attributes, Attributes]:
    """What a file of the host, whose attributes are to be changed, has of these now and is to have. Raises OSError.

    `seen`: the extended attributes that the sandbox sees.
    """
    before, after = change.before, change.after
    assert before is not None
    assert after is not None
    st = before.st
    now = st.st_mode, st.st_uid, st.st_gid
    uid, gid = wanted_ids(change, who) if OWNER in change.aspects else now[1:]
    mode = stat.S_IFMT(st.st_mode) | after.owner.mode if MODE in change.aspects else now[0]
    given: dict[bytes, bytes] = {}
    names: set[bytes] = set()
    if XATTRS in change.aspects:
        given = host_xattrs(view, change, who, seen)
        names = {*given, *_before(view, change)}
    old = [(name, _host_value(view, change.path, name)) for name in sorted(names)]
    new = [(name, given.get(name)) for name in sorted(names)]
    return Attributes(*now, tuple(old)), Attributes(mode, uid, gid, tuple(new))


def set_attributes(file: bytes, attributes: Attributes, extra: int) -> None:
    """Give a file these attributes, and some bits more in its mode. Raises OSError.

    `file`: the path of an open descriptor, a magic link of /proc (proc(5)), which is followed.
    """
    st = os.stat(file)
    if (st.st_uid, st.st_gid) != attributes[1:3]:
        os.chown(file, attributes.uid, attributes.gid)
    for name, value in attributes.xattrs:
        if value is None:
            remove_xattr(file, name, follow=True)
        else:
            os.setxattr(file, name, value)
    if not stat.S_ISLNK(st.st_mode):
        os.chmod(file, stat.S_IMODE(attributes.mode) | extra)


def remove_xattr(file: int | bytes, name: bytes, *, follow: bool) -> None:
    """Remove an extended attribute if it is there. Raises OSError."""
    try:
        os.removexattr(file, name, follow_symlinks=follow)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise


def _before(view: LayerView, change: Change) -> dict[bytes, bytes]:
    """The extended attributes of what was there before, as the sandbox saw them; none if it was of another type."""
    if change.before is None or change.before.kind != change.item.kind or change.before.kind == stat.S_IFLNK:
        return {}
    above, _, name = change.path.rpartition(b"/")
    node = view.lower.require(view.directory_at(view.lower, above), name)
    return xattrs_of(view.lower, view.lower.file(node))


def _host_value(view: LayerView, path: bytes, name: bytes) -> bytes | None:
    """An attribute of the host's file itself, as it is there."""
    above, _, last = path.rpartition(b"/")
    try:
        return os.getxattr(at(view.descriptor_of(view.lower, above), last), name, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
        return None
