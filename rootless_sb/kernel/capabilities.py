"""The capabilities of the calling process: capabilities(7), capset(2), prctl(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from rootless_sb.kernel import libc

_SYS_CAPGET, _SYS_CAPSET = {"x86_64": (125, 126), "aarch64": (90, 91)}.get(os.uname().machine, (-1, -1))
_VERSION_3 = 0x20080522  # <linux/capability.h>: 64 bits, in two halves
_PR_CAPBSET_DROP = 24  # <linux/prctl.h>
_PR_CAP_AMBIENT = 47
_CLEAR_ALL = 4
_ZERO = ctypes.c_ulong(0)


def drop_all() -> None:
    """Give up every capability, for good. Raises OSError."""
    limit(0)


def limit(mask: int) -> None:
    """Keep only those in `mask`, of those that there are: permitted and effective. Raises OSError."""
    header = struct.pack("=Ii", _VERSION_3, 0)
    sets = ctypes.create_string_buffer(24)
    libc.syscall(_SYS_CAPGET, header, sets)
    _, low, _, _, high, _ = struct.unpack("=6I", sets)
    low, high = low & mask, high & mask >> 32
    libc.syscall(_SYS_CAPSET, header, struct.pack("=6I", low, low, 0, high, high, 0))


def bound(mask: int) -> None:
    """Be able to gain none but those in `mask` by executing a program. Raises OSError: it takes CAP_SETPCAP."""
    for number in range(64):
        if not mask >> number & 1 and not _drop_from_bounding_set(number):
            break
    try:
        libc.call("prctl", _PR_CAP_AMBIENT, ctypes.c_ulong(_CLEAR_ALL), _ZERO, _ZERO, _ZERO)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 4.3
            raise


def _drop_from_bounding_set(number: int) -> bool:
    """Whether this kernel has a capability of that number."""
    try:
        libc.call("prctl", _PR_CAPBSET_DROP, ctypes.c_ulong(number), _ZERO, _ZERO, _ZERO)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True
