"""A way down a directory tree and up again: any depth, few descriptors, no symbolic link followed."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_HELD = 64  # directories that are held open; those above are reached by `..` again
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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
