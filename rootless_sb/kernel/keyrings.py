"""Keyrings: keyctl(2), session-keyring(7)."""

from __future__ import annotations

import os

from rootless_sb.kernel import libc

_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine, -1)
_GET_KEYRING_ID = 0  # <linux/keyctl.h>
_SESSION = -3


def session() -> int:
    """The serial number of this process's session keyring, -1 where it can't be known."""
    try:
        return libc.syscall(_SYS_KEYCTL, _GET_KEYRING_ID, _SESSION, 0)
    except OSError:  # ENOSYS; EPERM, as engines of containers have it
        return -1
