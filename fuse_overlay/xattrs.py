"""Which extended attributes the sandbox sees and may set."""

from __future__ import annotations

import errno

ORIGIN = b"user.fuse-overlay.origin"

# Attributes that mean something to an overlay, ours, fuse-overlayfs' or the kernel's. Those who see a file through
# the overlay neither see nor set them, or they could forge whiteouts, opaque marks and owners.
RESERVED = (b"user.overlay.", b"user.fuseoverlayfs.", b"user.containers.", b"user.fuse-overlay.")


def visible(name: bytes) -> bool:
    """Whether an attribute of a real file is shown, and goes along at copy-up."""
    return name.startswith(b"user.") and not name.startswith(RESERVED)


def refusal(name: bytes) -> int:
    """The errno that setting or removing an attribute is refused with; 0: it may be set."""
    if visible(name):
        return 0
    return errno.EPERM if name.startswith((b"user.", b"trusted.")) else errno.EOPNOTSUPP


def absence(name: bytes) -> int:
    """The errno that reading an attribute which isn't shown is answered with."""
    return errno.EOPNOTSUPP if name.startswith(b"system.") else errno.ENODATA
