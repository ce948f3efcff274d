"""Copying a file's bytes, by whichever of the kernel's ways works between the two file systems."""

from __future__ import annotations

import errno
import os

_CHUNK = 1 << 30  # copy_file_range and sendfile move at most 2 GiB at once
_BUFFER = 1 << 20
_SMALL = 1 << 15

# copy_file_range(2), sendfile(2): "not between these two", "not here", "not with such files".
_UNSUPPORTED = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})


def copy(source: int, target: int, length: int) -> None:
    """Copy the first `length` bytes of one open file to another, empty one, which is `length` bytes long then.

    Holes stay holes where the source's file system tells them (SEEK_DATA, lseek(2)). Raises OSError.
    """
    os.ftruncate(target, length)
    if length <= _SMALL:
        data = os.pread(source, length, 0)  # to look for holes would take longer
        if os.pwrite(target, data, 0) == len(data):
            return
    start = 0
    while start < length:
        start, end = _next_data(source, start, length)
        if start < end:
            _copy_range(source, target, start, end)
        start = end


def _next_data(source: int, start: int, length: int) -> tuple[int, int]:
    """The next stretch of data from `start` on; an empty one at the end if there is none."""
    try:
        data = os.lseek(source, start, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return length, length
        return start, length  # not supported: all of it is data
    if data >= length:
        return length, length
    return data, min(length, os.lseek(source, data, os.SEEK_HOLE))


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    ways = [_by_kernel, _by_sendfile, _by_hand]
    while start < end:
        try:
            moved = ways[0](source, target, start, min(_CHUNK, end - start))
        except OSError as error:
            if len(ways) == 1 or error.errno not in _UNSUPPORTED:
                raise
            del ways[0]
            continue
        if moved == 0:
            if len(ways) == 1:
                return  # the source has become shorter; what is missing reads as zeros
            del ways[0]  # some file systems say 0 where they can't copy this way
        start += moved


def _by_kernel(source: int, target: int, start: int, count: int) -> int:
    return os.copy_file_range(source, target, count, start, start)


def _by_sendfile(source: int, target: int, start: int, count: int) -> int:
    os.lseek(target, start, os.SEEK_SET)
    return os.sendfile(target, source, start, count)


def _by_hand(source: int, target: int, start: int, count: int) -> int:
    return os.pwrite(target, os.pread(source, min(_BUFFER, count), start), start)
