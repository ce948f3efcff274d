"""The one way to call libc: an error becomes an OSError that carries errno."""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False  # without an import of `typing`, which `agent.client` does without
if TYPE_CHECKING:
    from _ctypes import _CArgObject as _Pointer
    from typing import TypeAlias

    Argument: TypeAlias = int | bytes | ctypes._CData | _Pointer | None

_libc = ctypes.CDLL(None, use_errno=True)

# System calls without a wrapper in the oldest C library that we run on (glibc 2.28 on RHEL 8). Those newer than
# Linux 5.0 have the same number on every architecture (Linux, scripts/syscall.tbl).
SYS_OPENAT2 = 437
SYS_MOUNT_SETATTR = 442
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(os.uname().machine, -1)


def call(name: str, *arguments: Argument) -> int:
    """Call the libc function `name`. Integers wider than an int must come wrapped in a ctypes type.

    Returns what the function returns; raises OSError with its errno when that is -1.
    """
    result: int = getattr(_libc, name)(*arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def syscall(number: int, *arguments: Argument) -> int:
    """Call the system call `number` directly. Raises OSError as `call` does."""
    return call("syscall", ctypes.c_long(number), *arguments)
