"""openat2(2) and renameat2(2)."""

from __future__ import annotations

import ctypes
import os

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08

# The same on every architecture (Linux, scripts/syscall.tbl).
_SYS_OPENAT2 = 437

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _checked(result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def open_beneath(root: int, path: bytes, flags: int) -> int:
    """Open `path` beneath the directory `root`, through no symbolic link and no `..` that leads out of it.

    Mounts are crossed. Raises OSError; ENOSYS before Linux 5.6 and under seccomp filters that don't know the call.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS)
    return _checked(
        _libc.syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(root),
            ctypes.c_char_p(path),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
    )


def rename(source_dir: int, source: bytes, target_dir: int, target: bytes, flags: int) -> None:
    """Rename, with RENAME_ flags. Raises OSError; EINVAL where the file system doesn't know a flag."""
    _checked(
        _libc.renameat2(
            ctypes.c_int(source_dir),
            ctypes.c_char_p(source),
            ctypes.c_int(target_dir),
            ctypes.c_char_p(target),
            ctypes.c_uint(flags),
        )
    )
