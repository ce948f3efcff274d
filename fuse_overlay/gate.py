"""Closes what only the server's supplementary groups open to it, where that is asked for.

The kernel lets the server in by all of its groups, and without privilege it can't give up one. So it asks itself.
"""

from __future__ import annotations

import errno
import os

from fuse_overlay import acl, xattrs
from fuse_overlay.errors import failure

READ, SEARCH = 4, 1


class Gate:
    """Weighs the files of a tree for a process of the server's user and primary group alone."""

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self._ids = (os.geteuid(), os.getegid())

    def require(self, file: int | bytes, wanted: int) -> None:
        """Raises OSError EACCES unless a file permits this to user and group: one that is open (O_PATH will do), or one
        at a path, whose last name isn't followed if it is a symbolic link.
        """
        path, follow = (b"/proc/self/fd/%d" % file, True) if isinstance(file, int) else (file, False)
        st = os.stat(path, follow_symlinks=follow)
        if not acl.allowed(_acl_of(path, follow=follow), st.st_mode, self._ids, (st.st_uid, st.st_gid)) & wanted:
            raise failure(errno.EACCES)


def _acl_of(path: bytes, *, follow: bool) -> acl.Acl | None:
    try:
        value = os.getxattr(path, xattrs.ACL_ACCESS, follow_symlinks=follow)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        raise
    return acl.parse(value)
