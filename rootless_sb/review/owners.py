"""Ids and ACLs from inside the sandbox to the host: the way back of what `fuse_overlay.ownership` shows. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_overlay import acl, ownership
from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from fuse_overlay.acl import Acl
    from fuse_overlay.config import Config, Extent
    from rootless_sb.review.changes import Change, Item


class Identity(NamedTuple):
    """Who applies: the host's ids, `groups` all that count; and what his own are inside.

    `uids`, `gids`: what ids inside really are on the host, if they are any there; then they are all his to give away.
    """

    uid: int
    gid: int
    groups: frozenset[int]
    own_uid: int
    own_gid: int
    uids: tuple[Extent, ...] = ()
    gids: tuple[Extent, ...] = ()

    def uid_of(self, inside: int) -> int:
        """The host's uid for one inside: all but the own are shown as they are."""
        return self.uid if inside == self.own_uid else _outside(self.uids, inside)

    def gid_of(self, inside: int) -> int:
        """The host's gid for one inside."""
        return self.gid if inside == self.own_gid else _outside(self.gids, inside)

    def owns(self, uid: int) -> bool:
        """Whether files of the host's user `uid` are his to change."""
        return uid == self.uid or ownership.inside_of(self.uids, uid) is not None

    def is_in(self, gid: int) -> bool:
        """Whether files may be given to the host's group `gid`."""
        return gid in self.groups or ownership.inside_of(self.gids, gid) is not None


def identity(config: Config, uid: int, gid: int, groups: frozenset[int]) -> Identity:
    """Who applies what a sandbox of this configuration has changed."""
    real = (config.uids, config.gids) if config.real_ids else ((), ())
    return Identity(uid, gid, groups | {gid}, config.own_uid, config.own_gid, *real)


def _outside(extents: tuple[Extent, ...], inside: int) -> int:
    host = ownership.host_of(extents, inside)
    return inside if host is None else host


def wanted_ids(change: Change, who: Identity) -> tuple[int, int]:
    """The uid and gid on the host that a changed file is to have: those that it has, where the sandbox left them."""
    after, before = change.after, change.before
    assert after is not None
    uid, gid = who.uid_of(after.owner.uid), who.gid_of(after.owner.gid)
    if before is not None and before.owner.uid == after.owner.uid:
        uid = before.st.st_uid
    if before is not None and before.owner.gid == after.owner.gid:
        gid = before.st.st_gid
    return uid, gid


def inherits_group(after: Item, above: Item | None) -> bool:
    """Whether a new file has the group that a setgid directory of the host's gives it (inode(7))."""
    return above is not None and bool(above.owner.mode & 0o2000) and after.owner.gid == above.owner.gid


def host_acl(value: bytes, who: Identity, seen: bytes = b"", real: bytes = b"") -> bytes:
    """An ACL's value with the host's ids; one that can't be understood as it is.

    `real`: the one that the host's file has, and `seen`: what the sandbox saw of it, whose ids it may not all have.
    What it didn't see stays.
    """
    parsed = acl.parse(value)
    if parsed is None:
        return value
    entries = _with_host_ids(parsed, who)
    if any(each.tag == acl.MASK for each in entries):  # else there can be no named entries: acl(5)
        known = {(each.tag, each.id) for each in _with_host_ids(acl.parse(seen) or (), who)}
        named = (each for each in acl.parse(real) or () if each.tag in (acl.USER, acl.GROUP))
        entries += [each for each in named if (each.tag, each.id) not in known]
    return acl.format_value(acl.in_order(entries))


def _with_host_ids(entries: Acl, who: Identity) -> list[acl.Entry]:
    ways = {acl.USER: who.uid_of, acl.GROUP: who.gid_of}
    return [each._replace(id=ways[each.tag](each.id)) if each.tag in ways else each for each in entries]
