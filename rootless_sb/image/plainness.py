"""Whether a layer's files are on disk what the image says of them, so that the kernel's own overlay can show it."""

from __future__ import annotations

import os
import stat

from fuse_overlay import indexes, ownership, whiteout, xattrs
from fuse_overlay.layers import at, names_of_xattrs, read_xattr

_KEPT = (xattrs.kept_as(xattrs.CAPABILITY), xattrs.kept_as(xattrs.ACL_ACCESS), xattrs.kept_as(xattrs.ACL_DEFAULT))


def obstacle(tree: str) -> str:
    """What the kernel would show otherwise than the image has it, in words; empty if nothing. Raises OSError.

    `tree`: a layer's directory. Whoever mounts it shows all of its user's files as root's.
    """
    for path, names, others, directory in os.fwalk(os.fsencode(tree)):
        if indexes.exists(directory):
            return "its layers' file system has no extended attributes"
        for name in (b".", *names, *others):
            if why := _obstacle(directory, name):
                return f"{os.fsdecode(os.path.relpath(os.path.join(path, name), os.fsencode(tree)))} {why}"
    return ""


def _obstacle(directory: int, name: bytes) -> str:
    st = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if whiteout.is_mark(name):
        return "is a mark that the kernel doesn't know"
    if whiteout.is_whiteout(st) or not (stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode)):
        return ""
    file = at(directory, name)
    value = read_xattr(file, ownership.XATTR)
    record = ownership.parse_record(value) if value is not None else None
    if value is not None and ownership.parse_device(value) is not None:
        return "is a device node"
    if record is not None and (record.uid or record.gid):
        return f"belongs to {record.uid}:{record.gid}"
    if record is not None and record.mode != st.st_mode & ownership.MODE_BITS:
        return f"has the mode {record.mode:04o}"
    if any(kept in _KEPT for kept in names_of_xattrs(file)):
        return "has capabilities or an ACL"
    return ""
