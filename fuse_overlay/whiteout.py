"""The marks in a layer that say "what lower layers have here is gone": whiteouts and opaque directories.

Formats: a character device 0:0, a file with an attribute, and user.overlay.opaque (Linux,
Documentation/filesystems/overlayfs.rst), and `.wh.NAME` and `.wh..wh..opq` (OCI image-spec, layer.md). All are read;
which one is written, the upper decides.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

PREFIX = b".wh."
OPAQUE_FILE = b".wh..wh..opq"
OPAQUE_XATTR = b"user.overlay.opaque"
OPAQUE_XATTRS = (OPAQUE_XATTR, b"user.fuseoverlayfs.opaque", b"trusted.overlay.opaque")
OPAQUE_VALUE = b"y"

# Empty regular files with this attribute are whiteouts too, in directories that say so, of layers whose root says so
# (Linux 6.8): what somebody makes who has an overlay of his own in an overlay.
FILE_XATTR = b"user.overlay.whiteout"
FILES_VALUE = b"x"


def is_whiteout(st: os.stat_result) -> bool:
    """Whether this is overlayfs' whiteout, a character device 0:0."""
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def may_be_whiteout(st: os.stat_result) -> bool:
    """Whether this is a whiteout if it has the attribute."""
    return stat.S_ISREG(st.st_mode) and st.st_size == 0


def is_mark(name: bytes) -> bool:
    """Whether a file of this name is a mark, in a layer."""
    return name.startswith(PREFIX)


def mark_of(name: bytes) -> bytes:
    """The name of the file that marks `name` as gone."""
    return PREFIX + name


def hidden_by(mark: bytes) -> bytes | None:
    """The name that a mark takes away from lower layers; None for marks that concern the whole directory."""
    return None if mark.startswith(PREFIX + PREFIX) else mark[len(PREFIX) :]
