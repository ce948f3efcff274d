"""Who owns a file, as data: the ids and modes that are shown, and when they must be recorded beside the file.

A record is the xattr user.containers.override_stat, "UID:GID:MODE" with an octal mode, as containers/storage
(drivers/overlay, pkg/idtools) writes it. Of the file's type, which may follow a third colon there, only
"char-MAJOR-MINOR" and "block-MAJOR-MINOR" mean something here: such a file stands for a device node.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fuse_overlay.config import Extent

XATTR = b"user.containers.override_stat"

# The same, as fuse-overlayfs writes it when it is told to (its option xattr_permissions=2). Only read.
FOREIGN_XATTR = b"user.fuseoverlayfs.override_stat"

# The kernel's "no such id" (include/linux/uidgid.h, INVALID_UID), and the mask of the bits that chmod changes.
NO_ID = 0xFFFFFFFF
# What the kernel shows of an id that a user namespace lacks (/proc/sys/kernel/overflowuid, by default).
_OVERFLOW_ID = 65534
MODE_BITS = 0o7777

# The kernel's device numbers (include/linux/kdev_t.h).
_MAJOR_MAX = (1 << 12) - 1
_MINOR_MAX = (1 << 20) - 1


class Owner(NamedTuple):
    """What is shown of a file: ids inside, and the twelve mode bits."""

    uid: int
    gid: int
    mode: int


class Device(NamedTuple):
    """A device node: S_IFCHR or S_IFBLK, and its number (makedev(3))."""

    kind: int
    rdev: int


class IdMap:
    """Host ids to shown ids, for users or for groups."""

    __slots__ = ("_extents", "_host_own", "_shown", "own")

    def __init__(self, host_own: Iterable[int], own: int, extents: Sequence[Extent]) -> None:
        """`host_own`: the host's ids that are shown as `own`."""
        self.own = own
        self._host_own = frozenset(host_own)
        self._extents = tuple(extents)
        self._shown: dict[int, int] = {}

    def is_own(self, host: int) -> bool:
        """Whether this id of the host is the server's own."""
        return host in self._host_own

    def knows(self, host: int) -> bool:
        """Whether a file of this id of the host's is shown as that id's, and not as the own for want of another."""
        return self.is_own(host) or self.exists(host)

    def exists(self, inside: int) -> bool:
        """Whether this id exists inside: the kernel refuses writes to inodes of any other."""
        for first, count, _ in self._extents:  # noqa: SIM110 - any() takes three times as long, for each chmod
            if 0 <= inside - first < count:
                return True
        return False

    def shown(self, host: int) -> int:
        """What a file of the host's id `host` is shown as."""
        known = self._shown.get(host)
        if known is None:
            known = host if host not in self._host_own and self.exists(host) else self.own
            self._shown[host] = known
        return known

    def admitted(self, inside: int) -> int:
        """A recorded id, if it may be shown; else the own one."""
        return inside if inside == self.own or self.exists(inside) else self.own


def inside_of(extents: Iterable[Extent], host: int) -> int | None:
    """What the kernel shows of the host's id in a user namespace with these extents; None if the namespace lacks it."""
    return next((inside + host - outside for inside, count, outside in extents if 0 <= host - outside < count), None)


def host_of(extents: Iterable[Extent], inside: int) -> int | None:
    """The host's id for one in a user namespace with these extents; None if the namespace lacks it."""
    return next((outside + inside - first for first, count, outside in extents if 0 <= inside - first < count), None)


class RealIdMap(IdMap):
    """Host ids to those that the kernel shows of them in a user namespace with these extents."""

    __slots__ = ()

    def shown(self, host: int) -> int:
        """What a file of the host's id `host` is there: user_namespaces(7), "Unmapped user and group IDs"."""
        inside = inside_of(self._extents, host)
        return _OVERFLOW_ID if inside is None else inside

    def knows(self, host: int) -> bool:
        """Whether this id of the host's is one there."""
        return inside_of(self._extents, host) is not None

    def hosts(self, inside: int) -> int:
        """The host's id for one that exists inside."""
        host = host_of(self._extents, inside)
        assert host is not None
        return host


def real_mode(kind: int, mode: int) -> int:
    """The mode bits of the real file of a kind (S_IFMT bits) that shows as `mode`.

    Never below 0600 or 0700: its user must always be able to read it, to write its xattrs and to delete it. Never
    setuid, setgid or sticky: on the host it would be the user's own privilege that is given away.
    """
    return (mode & 0o777) | (0o700 if kind == stat.S_IFDIR else 0o600)


def format_record(owner: Owner, device: Device | None = None) -> bytes:
    """The value of the xattr for this owner, of a file that stands for a device if one is given."""
    value = b"%d:%d:0%o" % owner
    if device is None:
        return value
    word = b"char" if device.kind == stat.S_IFCHR else b"block"
    return value + b":%s-%d-%d" % (word, os.major(device.rdev), os.minor(device.rdev))


def parse_record(value: bytes) -> Owner | None:
    """The owner that an xattr's value speaks of; None when it is malformed."""
    fields = value.split(b":")
    if len(fields) < 3:
        return None
    try:
        uid, gid, mode = int(fields[0]), int(fields[1]), int(fields[2], 8)
    except ValueError:
        return None
    if not (0 <= uid < NO_ID and 0 <= gid < NO_ID):
        return None
    return Owner(uid, gid, mode & MODE_BITS)


def parse_device(value: bytes) -> Device | None:
    """The device node that an xattr's value speaks of; None when it speaks of none or is malformed."""
    fields = value.split(b":")
    if len(fields) != 4 or parse_record(value) is None:
        return None
    word, *numbers = fields[3].split(b"-")
    kind = {b"char": stat.S_IFCHR, b"block": stat.S_IFBLK}.get(word)
    if kind is None or len(numbers) != 2 or not all(number.isdigit() and len(number) < 8 for number in numbers):
        return None
    major, minor = map(int, numbers)
    if major > _MAJOR_MAX or minor > _MINOR_MAX:
        return None
    return Device(kind, os.makedev(major, minor))


def without_privilege(kind: int, mode: int) -> int:
    """The mode bits after a write or a change of owner: setuid goes, and setgid where it means "run as" (chown(2)).

    Of everything but directories (chown_common in fs/open.c).
    """
    if kind == stat.S_IFDIR:
        return mode
    mode &= ~stat.S_ISUID
    return mode & ~stat.S_ISGID if mode & stat.S_IXGRP else mode


def after_order(kind: int, mode: int) -> int:
    """The mode bits after the kernel said, before a write, that privilege goes.

    When it says so of a file with setgid alone, which nobody can execute as the group, it is for a writer who isn't of
    the group (setattr_should_drop_sgid in fs/attr.c).
    """
    if kind == stat.S_IFREG and mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IXGRP) == stat.S_ISGID:
        return mode & ~stat.S_ISGID
    return without_privilege(kind, mode)
