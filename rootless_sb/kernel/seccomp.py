"""Seccomp filters: seccomp(2), by way of prctl(2), which kernels before 3.17 have too."""

from __future__ import annotations

import ctypes
import errno

from rootless_sb.kernel import libc

_PR_SET_SECCOMP = 22  # <linux/prctl.h>; python-prctl offers only the strict mode
_MODE_FILTER = 2
_INSTRUCTION = 8  # bytes of a struct sock_filter


class _Program(ctypes.Structure):  # struct sock_fprog
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def install(program: bytes) -> None:
    """Hold the calling process and all that it becomes and starts to a filter, for good; other ones stay in force.

    The caller must have no_new_privs or CAP_SYS_ADMIN. Raises OSError.
    """
    description = _Program(len(program) // _INSTRUCTION, program)
    libc.call("prctl", _PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), ctypes.byref(description), None, None)


def probe() -> None:
    """Offer a filter at no address: EFAULT where the kernel would have read it. Raises OSError: it knows of none."""
    try:
        libc.call("prctl", _PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), None, None, None)
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise
