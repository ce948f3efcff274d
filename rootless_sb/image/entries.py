"""What a layer's tar archive says of one file, checked. Pure: `tarfile` has parsed it, `unpack` acts on it.

Format: OCI image-spec, layer.md; pax headers of POSIX.1-2017 (pax), with SCHILY.xattr.* as star(1) has them.
"""

from __future__ import annotations

import os
import stat
import tarfile
from typing import TYPE_CHECKING

from fuse_overlay import ownership, whiteout, xattrs
from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError

if TYPE_CHECKING:
    from tarfile import TarInfo

_XATTR = "SCHILY.xattr."
_NANO = 1_000_000_000
# Times that file systems can hold: ext4's, which is 34 bits of seconds from 1901 on (Documentation/filesystems/ext4).
_EARLIEST, _LATEST = -(1 << 31), (1 << 34) - (1 << 31) - 1

FILE = stat.S_IFREG
DIRECTORY = stat.S_IFDIR
SYMLINK = stat.S_IFLNK
FIFO = stat.S_IFIFO
HARD_LINK = 0
WHITEOUT = -1  # `name` is gone from lower layers
OPAQUE = -2  # all that lower layers have in the directory is gone
NOTHING = -3  # a mark that means nothing to us

_KINDS = {
    tarfile.REGTYPE: FILE,
    tarfile.AREGTYPE: FILE,
    tarfile.CONTTYPE: FILE,
    tarfile.GNUTYPE_SPARSE: FILE,
    tarfile.DIRTYPE: DIRECTORY,
    tarfile.SYMTYPE: SYMLINK,
    tarfile.FIFOTYPE: FIFO,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.LNKTYPE: HARD_LINK,
}


class Entry(NamedTuple):
    """One file of a layer.

    `parent` and `name`: where it is; the layer's root itself has the name `.`. `kind`: S_IFMT bits, or one of this
    module's marks. `target`: what a symlink reads; `link`: the parent and the name of what a hard link is to. `size` in
    bytes, `modified` in nanoseconds since 1970. `attributes`: all extended attributes to set, the owner's record among
    them.
    """

    parent: tuple[bytes, ...]
    name: bytes
    kind: int
    mode: int = 0
    size: int = 0
    modified: int = 0
    target: bytes = b""
    link: tuple[tuple[bytes, ...], bytes] = ((), b"")
    attributes: dict[bytes, bytes] = {}  # noqa: RUF012 (nobody changes it)

    def path(self) -> str:
        """Where it is, for people."""
        return os.fsdecode(b"/".join((*self.parent, self.name)))


def understand(info: TarInfo, longest: int) -> Entry:
    """The entry that a tar header makes. `longest`: the bytes that a path may have. Raises SbError."""
    path = os.fsencode(info.name)
    parent, name = place(path, longest)
    kind = _KINDS.get(info.type)
    if kind is None:
        raise _bad(path, f"its type {info.type!r} is none that a layer can have")
    if name.startswith(whiteout.PREFIX):
        return _mark(parent, name)
    if name == b"." and kind != DIRECTORY:
        raise _bad(path, "the root of a layer is a directory")
    if info.size < 0:
        raise _bad(path, f"its size is {info.size}")
    device = None
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        device = _device(kind, info, path)
    mode = info.mode & ownership.MODE_BITS
    return Entry(
        parent,
        name,
        kind,
        mode=mode,
        size=info.size if kind == FILE else 0,
        modified=_modified(info, path),
        target=_target(info, path) if kind == SYMLINK else b"",
        link=place(os.fsencode(info.linkname), longest) if kind == HARD_LINK else ((), b""),
        attributes=_attributes(info, ownership.Owner(_id(info.uid, path), _id(info.gid, path), mode), device),
    )


def place(path: bytes, longest: int) -> tuple[tuple[bytes, ...], bytes]:
    """The directory and the name that a path in a layer means: `/a/./b` is `b` in `a`. Raises SbError.

    An absolute path begins at the layer's root, as for docker and tar(1); no honest layer has `..`.
    """
    if len(path) > longest:
        raise _bad(path[:80] + b"...", f"its path has {len(path)} bytes; {longest} is the limit")
    parts = tuple(part for part in path.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise _bad(path, "its path has .. in it")
    if b"\0" in path:
        raise _bad(path, "its path has a NUL in it")
    if any(part.startswith(whiteout.PREFIX) for part in parts[:-1]):
        raise _bad(path, "it is beneath a mark that is no directory")
    return (parts[:-1], parts[-1]) if parts else ((), b".")


def _mark(parent: tuple[bytes, ...], name: bytes) -> Entry:
    """A whiteout or an opaque mark. Others of that form are aufs' own and mean nothing (layer.md, whiteouts)."""
    if name == whiteout.OPAQUE_FILE:
        return Entry(parent, name, OPAQUE)
    gone = whiteout.hidden_by(name)
    if gone is None:
        return Entry(parent, name, NOTHING)
    if gone in (b"", b".", b".."):
        raise _bad(b"/".join((*parent, name)), "it takes no name away")
    return Entry(parent, gone, WHITEOUT)


def _attributes(info: TarInfo, owner: ownership.Owner, device: ownership.Device | None) -> dict[bytes, bytes]:
    """What will be recorded. Attributes that only a host's kernel could vouch for are left out (security.selinux)."""
    found = {}
    for key, value in info.pax_headers.items():
        if key.startswith(_XATTR):
            name = os.fsencode(key[len(_XATTR) :])
            kept = xattrs.kept_as(name) if xattrs.visible(name) or name in xattrs.AS_DATA else None
            if kept is not None and b"\0" not in name:
                found[kept] = os.fsencode(value)
    found[ownership.XATTR] = ownership.format_record(owner, device)
    return found


def _modified(info: TarInfo, path: bytes) -> int:
    """When it was changed, in nanoseconds; pax headers have more digits than a float keeps."""
    text = info.pax_headers.get("mtime", "")
    try:
        seconds, _, fraction = text.partition(".") if text else (str(int(info.mtime)), "", "")
        nanoseconds = int(seconds) * _NANO
        part = int((fraction + "000000000")[:9]) if fraction else 0
    except (ValueError, OverflowError):
        raise _bad(path, f"its time {text or info.mtime} is none") from None
    nanoseconds += -part if seconds.startswith("-") else part
    return min(max(nanoseconds, _EARLIEST * _NANO), _LATEST * _NANO)


def _id(number: int, path: bytes) -> int:
    if not 0 <= number < ownership.NO_ID:
        raise _bad(path, f"its owner {number} can't be one")
    return number


def _target(info: TarInfo, path: bytes) -> bytes:
    target = os.fsencode(info.linkname)
    if not target or b"\0" in target or len(target) > 4095:  # PATH_MAX: symlink(2)
        raise _bad(path, "what the symlink reads can't be that")
    return target


def _device(kind: int, info: TarInfo, path: bytes) -> ownership.Device:
    if not (0 <= info.devmajor < 1 << 12 and 0 <= info.devminor < 1 << 20):  # include/linux/kdev_t.h
        raise _bad(path, f"the device {info.devmajor}:{info.devminor} can't exist")
    return ownership.Device(kind, os.makedev(info.devmajor, info.devminor))


def _bad(path: bytes, why: str) -> SbError:
    return SbError(f"the layer's file {os.fsdecode(path)}", why, "don't trust this image")
