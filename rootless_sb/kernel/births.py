"""When a file was made: statx(2), which Python has no function for."""

from __future__ import annotations

import ctypes
import os

from rootless_sb.kernel import libc

_AT_SYMLINK_NOFOLLOW = 0x100  # <linux/fcntl.h>
_STATX_BTIME = 0x800  # <linux/stat.h>, as the offsets below
_SIZE = 256
_MASK_AT = 0
_BTIME_AT = 80
_SYS_STATX = {"x86_64": 332, "aarch64": 291}.get(os.uname().machine, -1)


def birth_time(directory: int, name: bytes) -> int | None:
    """When the file `name` in `directory` was made, in nanoseconds since 1970; None where nobody knows. Raises OSError.

    A file system may not keep it, and a kernel before Linux 4.11 doesn't tell.
    """
    answer = ctypes.create_string_buffer(_SIZE)
    try:
        libc.syscall(_SYS_STATX, directory, name, _AT_SYMLINK_NOFOLLOW, ctypes.c_uint(_STATX_BTIME), answer)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise
        return None
    if not ctypes.c_uint32.from_buffer(answer, _MASK_AT).value & _STATX_BTIME:
        return None
    seconds = ctypes.c_int64.from_buffer(answer, _BTIME_AT).value
    return seconds * 1_000_000_000 + ctypes.c_uint32.from_buffer(answer, _BTIME_AT + 8).value
