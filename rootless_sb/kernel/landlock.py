"""Landlock: landlock(7), <linux/landlock.h>. The numbers of its calls are the same on every architecture."""

from __future__ import annotations

import ctypes
import os
import struct

from rootless_sb.kernel import libc

_SYS_CREATE_RULESET = 444
_SYS_ADD_RULE = 445
_SYS_RESTRICT_SELF = 446
_VERSION = 1
_PATH_BENEATH = 1


def version() -> int:
    """The version of the kernel's interface. Raises OSError: ENOSYS or EOPNOTSUPP where there is none."""
    return libc.syscall(_SYS_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))


def version_or_none() -> int:
    """The version of the kernel's interface, 0 where there is none."""
    try:
        return version()
    except OSError:  # too old, built without, or switched off
        return 0


def restrict(files: int, granted: int, network: int, scoped: int, *, beneath: str) -> None:
    """Put the calling process, for good, into a domain that handles these rights to files, to TCP and beyond itself:
    the fields of struct landlock_ruleset_attr. The rights to files in `granted` remain beneath a directory, `beneath`.

    The caller must have no_new_privs or CAP_SYS_ADMIN. Raises OSError.
    """
    # A kernel that knows fewer fields takes the longer structure if the others are zero (copy_struct_from_user).
    attributes = struct.pack("=QQQ", files, network, scoped)
    ruleset = libc.syscall(_SYS_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    try:
        if granted:
            directory = os.open(beneath, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                rule = struct.pack("=Qi", granted, directory)
                libc.syscall(_SYS_ADD_RULE, ruleset, _PATH_BENEATH, rule, ctypes.c_uint32(0))
            finally:
                os.close(directory)
        libc.syscall(_SYS_RESTRICT_SELF, ruleset, ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
