"""POSIX access control lists, as the kernel passes them in system.posix_acl_access and system.posix_acl_default.

acl(5) has the rules, include/uapi/linux/posix_acl_xattr.h the format: a version, then a tag, permissions and an id for
each entry. Here an ACL is data that is kept with a file; the kernel enforces it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeAlias

from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuse_overlay.ownership import IdMap

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

_VERSION = 2
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")

# How far left in a mode the permissions of an entry stand.
_MODE_TAGS = (USER_OBJ, GROUP_OBJ, OTHER)
_SHIFTS = {USER_OBJ: 6, GROUP_OBJ: 3, MASK: 3, OTHER: 0}


class Entry(NamedTuple):
    """Who may what: one of the tags above, three permission bits, and the id of a named user or group."""

    tag: int
    permissions: int
    id: int


Acl: TypeAlias = "tuple[Entry, ...]"


def parse(value: bytes) -> Acl | None:
    """The ACL in an attribute's value; None when it is malformed or lacks what every ACL has."""
    if len(value) < _HEADER.size or (len(value) - _HEADER.size) % _ENTRY.size:
        return None
    if _HEADER.unpack_from(value)[0] != _VERSION:
        return None
    acl = tuple(Entry(*fields) for fields in _ENTRY.iter_unpack(value[_HEADER.size :]))
    tags = [entry.tag for entry in acl]
    if any(tag not in (*_SHIFTS, USER, GROUP) for tag in tags) or any(entry.permissions > 7 for entry in acl):
        return None
    once = all(tags.count(tag) == 1 for tag in (USER_OBJ, GROUP_OBJ, OTHER)) and tags.count(MASK) <= 1
    return acl if once and (MASK in tags or not {USER, GROUP} & set(tags)) else None


def format_value(acl: Acl) -> bytes:
    """The value of the attribute for this ACL."""
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in acl)


def is_minimal(acl: Acl) -> bool:
    """Whether a mode says the same, so that nothing need be kept."""
    return all(entry.tag in (USER_OBJ, GROUP_OBJ, OTHER) for entry in acl)


def mode_of(acl: Acl, mode: int) -> int:
    """The mode bits that a file of `mode` shows with this access ACL: the group's are the mask's if there is one."""
    shown = mode & ~0o777
    for entry in acl:
        if entry.tag == _group_class(acl) or entry.tag in (USER_OBJ, OTHER):
            shown |= entry.permissions << _SHIFTS[entry.tag]
    return shown


def after_chmod(acl: Acl, mode: int) -> Acl:
    """The access ACL of a file whose mode was changed to `mode`."""
    return tuple(
        entry._replace(permissions=mode >> _SHIFTS[entry.tag] & 7)
        if entry.tag == _group_class(acl) or entry.tag in (USER_OBJ, OTHER)
        else entry
        for entry in acl
    )


def of_new(default: Acl, mode: int) -> tuple[Acl, int]:
    """The access ACL and the mode of what is made with `mode` in a directory with this default ACL."""
    allowed = mode_of(default, 0) & mode
    return after_chmod(default, allowed), mode & ~0o777 | allowed & 0o777


def mapped(acl: Acl, uids: IdMap, gids: IdMap) -> Acl:
    """The ACL of a host's file as seen inside, in the order of the ids there; entries of ids that don't exist there are
    left out.
    """
    kept = []
    for entry in acl:
        ids = {USER: uids, GROUP: gids}.get(entry.tag)
        if ids is None:
            kept.append(entry)
        elif ids.knows(entry.id):
            kept.append(entry._replace(id=ids.shown(entry.id)))
    return in_order(kept)


def in_order(entries: Iterable[Entry]) -> Acl:
    """Entries in the order that the kernel takes them in (posix_acl_valid, fs/posix_acl.c), and libacl writes: by tag,
    then by id.
    """
    return tuple(sorted(entries, key=lambda entry: (entry.tag, entry.id)))


def allowed(acl: Acl | None, mode: int, ids: tuple[int, int], owner: tuple[int, int]) -> int:
    """The permission bits that a process of these ids (user, group), of no other group and without privilege, has to a
    file of this owner: acl(5), "Access check algorithm". `acl`: the file's, None if its mode says it all. Of several
    groups' entries the bits are put together, which is right for whoever wants one of them.
    """
    entries = acl if acl is not None else tuple(Entry(tag, mode >> _SHIFTS[tag] & 7, 0) for tag in _MODE_TAGS)
    own = {entry.tag: entry.permissions for entry in entries if entry.tag in _SHIFTS}
    if ids[0] == owner[0]:
        return own[USER_OBJ]
    mask = own.get(MASK, 7)
    for entry in entries:
        if entry.tag == USER and entry.id == ids[0]:
            return entry.permissions & mask
    groups = [entry.permissions for entry in entries if entry.tag == GROUP and entry.id == ids[1]]
    groups += [own[GROUP_OBJ]] if ids[1] == owner[1] else []
    if not groups:
        return own[OTHER]
    bits = 0
    for each in groups:
        bits |= each
    return bits & mask


def _group_class(acl: Acl) -> int:
    """The tag of the entry that the group's bits of the mode stand for."""
    return MASK if any(entry.tag == MASK for entry in acl) else GROUP_OBJ
