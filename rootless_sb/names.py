"""The names of sandboxes: symlinks in one directory. One whose sandbox is gone is free."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import files

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_LONGEST = 128
_MARKS = "_.-"


def check(name: str) -> None:
    """Raise SbError for what can't be a name: docker's rule, letters and digits first, then also `_`, `.` and `-`."""
    good = name.isascii() and name[:1].isalnum() and all(each.isalnum() or each in _MARKS for each in name)
    if not good or len(name) > _LONGEST:
        raise SbError(f"not a name for a sandbox: {name}", hint="letters and digits, then also _, . and -")


class Names:
    """The names, locked while this is used in a `with`. Raises SbError on the way in."""

    __slots__ = ("_descriptor", "_lock", "_path")

    def __init__(self, store: str) -> None:
        self._path = f"{store}/names"

    def __enter__(self) -> Self:
        with Doing(f"cannot lock {self._path}", "set SB_DATA_HOME to a directory on another disk"):
            os.makedirs(self._path, 0o700, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._lock = files.lock(self._descriptor, ".lock", wait=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
        os.close(self._descriptor)

    def require_free(self, name: str) -> None:
        """Raise SbError if a sandbox has this name."""
        if os.path.isdir(f"{self._path}/{name}"):
            raise SbError(f"the name {name} is taken", hint=f"sb start {name}")

    def point(self, name: str, target: str) -> None:
        """Have a free name stand for `target`, a path that may begin in the names' directory. Raises SbError."""
        with Doing(f"cannot give the name {name}"):
            if os.path.lexists(f"{self._path}/{name}"):
                os.unlink(name, dir_fd=self._descriptor)
            os.symlink(target, name, dir_fd=self._descriptor)

    def release(self, name: str) -> None:
        """Have a name stand for nothing any more. Raises SbError."""
        with Doing(f"cannot take back the name {name}"):
            if os.path.lexists(f"{self._path}/{name}"):
                os.unlink(name, dir_fd=self._descriptor)


def directory(store: str, name: str) -> str | None:
    """The directory of the sandbox that has this name, if one has."""
    try:
        target = os.readlink(f"{store}/names/{name}")
    except OSError:  # none has it, or it can't be a name
        return None
    path = f"{store}/{target[3:]}" if target.startswith("../") else target
    return path if os.path.isdir(path) else None


def drop_dangling(store: str) -> None:
    """Remove the names of sandboxes that are gone. Raises SbError."""
    if not os.path.isdir(f"{store}/names"):
        return
    with Names(store), Doing(f"cannot remove a name in {store}"):
        for name in os.listdir(f"{store}/names"):
            path = f"{store}/names/{name}"
            if os.path.islink(path) and not os.path.isdir(path):
                os.unlink(path)
