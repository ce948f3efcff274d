"""A way down a directory tree and up again: any depth, few descriptors, no symbolic link followed."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Self

from fuse_overlay.kernel import paths

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

# openat2 takes paths up to PATH_MAX with the final NUL (path_resolution(7)); longer ones are walked.
_PATH_MAX = 4095
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HELD = 64  # directories that are held open; those above are reached by `..` again
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(start: int, names: list[bytes]) -> int:
    """Open a directory (O_PATH) below an open one, by way of these names and no symbolic link. Raises OSError."""
    if len(names) == 1:
        return os.open(names[0], _PLACE, dir_fd=start)
    path = b"/".join(names)
    if names and len(path) <= _PATH_MAX:
        try:
            return paths.open_beneath(start, path, _PLACE)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise  # else too old a kernel, or a seccomp filter that doesn't know the call
    return walk(start, names)


def walk(start: int, names: list[bytes], admit: Callable[[int], None] | None = None) -> int:
    """As `open_directory`, name by name. `admit`: raises OSError for a directory whose names may not be looked up."""
    fd = os.open(b".", _PLACE, dir_fd=start)
    for name in names:
        try:
            if admit is not None:
                admit(fd)
            below = os.open(name, _PLACE, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


class Descent:
    """Where a walk is in a tree. As a context manager it closes what it holds open."""

    def __init__(self, directory: int, name: bytes) -> None:
        """Begin in the directory `name` of an open one. Raises OSError."""
        self._released: list[tuple[int, int]] = []  # st_dev and st_ino of the directories above those that are open
        self._open = [os.open(name, _DIRECTORY, dir_fd=directory)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in self._open:
            os.close(fd)

    @property
    def fd(self) -> int:
        """The directory that the walk is in, open until the next step."""
        return self._open[-1]

    def enter(self, name: bytes) -> None:
        """Go down. Raises OSError, and is where it was then."""
        self._open.append(os.open(name, _DIRECTORY, dir_fd=self.fd))
        if len(self._open) > _HELD:
            st = os.fstat(self._open[0])
            self._released.append((st.st_dev, st.st_ino))
            os.close(self._open.pop(0))

    def leave(self) -> None:
        """Go up. Raises OSError, ESTALE if the directory that we are in has been moved meanwhile."""
        if len(self._open) == 1:
            above = os.open("..", _DIRECTORY, dir_fd=self.fd)
            self._open.insert(0, above)
            st = os.fstat(above)
            if self._released.pop() != (st.st_dev, st.st_ino):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        os.close(self._open.pop())
