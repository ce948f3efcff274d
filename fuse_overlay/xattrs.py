"""Which extended attributes the sandbox sees and may set, and under which names layers keep them."""

from __future__ import annotations

import errno

ORIGIN = b"user.fuse-overlay.origin"

CAPABILITY = b"security.capability"
ACL_ACCESS = b"system.posix_acl_access"
ACL_DEFAULT = b"system.posix_acl_default"

# Attributes that mean something to an overlay, ours, fuse-overlayfs' or the kernel's. Those who see a file through
# the overlay neither see nor set them, or they could forge whiteouts, opaque marks and owners.
RESERVED = (b"user.overlay.", b"user.fuseoverlayfs.", b"user.containers.", b"user.fuse-overlay.")

# As real attributes, a user couldn't set them at all or they would speak of the host's ids. As data they do no harm.
_KEPT_AS = {
    CAPABILITY: b"user.fuse-overlay.capability",
    ACL_ACCESS: b"user.fuse-overlay.acl-access",
    ACL_DEFAULT: b"user.fuse-overlay.acl-default",
}
_SHOWN_AS = {kept: shown for shown, kept in _KEPT_AS.items()}

# So are all others of this kind, of security modules: they mean something to the host's kernel only as real ones.
_SECURITY = b"security."
_SECURITY_KEPT = b"user.fuse-overlay.security."

# Of a file that isn't in the upper the real ones count too.
AS_DATA = tuple(_KEPT_AS)


def visible(name: bytes) -> bool:
    """Whether an attribute is for the inside, under its own name in layers too."""
    return name.startswith(b"user.") and not name.startswith(RESERVED)


def is_security(name: bytes) -> bool:
    """Whether an attribute is one that only root sets on a host."""
    return name.startswith(_SECURITY)


def kept_as(name: bytes) -> bytes | None:
    """The name under which files of layers have the attribute that is `name` inside; None: they can't have it."""
    if visible(name):
        return name
    if is_security(name) and name != CAPABILITY:
        return _SECURITY_KEPT + name.removeprefix(_SECURITY)
    return _KEPT_AS.get(name)


def shown_as(kept: bytes) -> bytes | None:
    """The name inside of what a file of a layer has; None: it isn't for the inside."""
    if visible(kept):
        return kept
    if kept.startswith(_SECURITY_KEPT):
        return _SECURITY + kept.removeprefix(_SECURITY_KEPT)
    return _SHOWN_AS.get(kept)


def refusal(name: bytes) -> int:
    """The errno that setting or removing an attribute is refused with; 0: it may be set."""
    if kept_as(name) is not None:
        return 0
    return errno.EPERM if name.startswith((b"user.", b"trusted.")) else errno.EOPNOTSUPP


def absence(name: bytes) -> int:
    """The errno that reading an attribute which isn't shown is answered with."""
    return errno.EOPNOTSUPP if name.startswith(b"system.") else errno.ENODATA
