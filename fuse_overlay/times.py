"""Times of real files, where a change of theirs isn't one inside, or the other way round."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def move_ctime(file: int | bytes) -> None:
    """Move a file's st_ctime, and none of its other times: for a change that isn't one of the real file. OSError."""
    follow = isinstance(file, int)
    st = os.stat(file, follow_symlinks=follow)
    os.utime(file, ns=(st.st_atime_ns, st.st_mtime_ns), follow_symlinks=follow)


@contextmanager
def keeping_times(fd: int, name: bytes = b".") -> Iterator[None]:
    """Change the entries of an upper directory without its st_atime and st_mtime: seen from inside nothing changes.

    It is `name` in the directory `fd`, or that itself; O_PATH will do.
    """
    st = os.stat(name, dir_fd=fd)
    yield
    os.utime(name, ns=(st.st_atime_ns, st.st_mtime_ns), dir_fd=fd)
