"""An overlay on nothing but slow file systems, without a mount: what requests need is asked for beforehand."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuse_overlay.ahead import Ahead, Known
from fuse_overlay.creation import ROOT
from fuse_overlay.mounts import Mounts
from fuse_overlay.overlay import Overlay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    from fuse_overlay.ahead import Errand
    from fuse_overlay.config import Config
    from fuse_overlay.creation import Caller
    from fuse_overlay.entries import Entry, Missing
    from fuse_overlay.handles import Opened
    from fuse_overlay.metadata import Wanted

    R = TypeVar("R")


def nothing() -> None:
    """What happens meanwhile, mostly."""


class Foreseen(Overlay):
    """Does for each request what the adapter does. `meanwhile` is called when all is asked for, before the request."""

    def __init__(self, config: Config) -> None:
        places = [lower.path for lower in config.lowers]
        super().__init__(config, Mounts({os.stat(path).st_dev: "nfs" for path in places}))
        self.ahead = Ahead(self)
        self.meanwhile: Callable[[], None] = nothing
        self.asked = 0

    def _foreseen(self, errands: Iterable[Errand], request: Callable[[], R]) -> R:
        known = Known()
        try:
            for errand in errands:
                errand.ask()
                self.ahead.take(errand, known)
                self.asked += 1
            meanwhile, self.meanwhile = self.meanwhile, nothing
            meanwhile()
            with self.ahead.known(known):
                return request()
        finally:
            self.ahead.drop(known)

    def lookup(self, parent: int, name: bytes) -> Entry | Missing:
        return self._foreseen(self.ahead.entry(parent, name), lambda: super(Foreseen, self).lookup(parent, name))

    def getattr(self, ino: int) -> Entry:
        return self._foreseen(self.ahead.file(ino), lambda: super(Foreseen, self).getattr(ino))

    def readlink(self, ino: int) -> bytes:
        return self._foreseen(self.ahead.link_target(ino), lambda: super(Foreseen, self).readlink(ino))

    def readdir(self, handle: int, start: int) -> Iterator[tuple[bytes, Entry, int]]:
        def listed() -> list[tuple[bytes, Entry, int]]:
            return list(super(Foreseen, self).readdir(handle, start))

        while given := self._foreseen(self.ahead.listed(handle, start), listed):
            yield from given
            start = given[-1][2]

    def create(self, parent: int, name: bytes, mode: int, flags: int, caller: Caller) -> tuple[Opened, Entry]:
        return self._foreseen(
            self.ahead.new_entry(parent, name),
            lambda: super(Foreseen, self).create(parent, name, mode, flags, caller),
        )

    def mknod(self, parent: int, name: bytes, mode: int, caller: Caller) -> Entry:
        return self._foreseen(
            self.ahead.new_entry(parent, name), lambda: super(Foreseen, self).mknod(parent, name, mode, caller)
        )

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Entry:
        return self._foreseen(
            self.ahead.new_entry(parent, name), lambda: super(Foreseen, self).symlink(parent, name, target, caller)
        )

    def link(self, ino: int, parent: int, name: bytes) -> Entry:
        return self._foreseen(
            self.ahead.linked(ino, parent, name), lambda: super(Foreseen, self).link(ino, parent, name)
        )

    def unlink(self, parent: int, name: bytes) -> None:
        self._foreseen(self.ahead.end_of_entry(parent, name), lambda: super(Foreseen, self).unlink(parent, name))

    def rmdir(self, parent: int, name: bytes) -> None:
        self._foreseen(self.ahead.end_of_entry(parent, name), lambda: super(Foreseen, self).rmdir(parent, name))

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        self._foreseen(
            self.ahead.moved_entry(parent, name, new_parent, new_name),
            lambda: super(Foreseen, self).rename(parent, name, new_parent, new_name, flags),
        )

    def open(self, ino: int, flags: int) -> Opened:
        return self._foreseen(self.ahead.opened(ino, flags), lambda: super(Foreseen, self).open(ino, flags))

    def setattr(self, ino: int, wanted: Wanted) -> Entry:
        return self._foreseen(
            self.ahead.changed(ino, wanted.size), lambda: super(Foreseen, self).setattr(ino, wanted)
        )

    def getxattr(self, ino: int, name: bytes) -> bytes:
        return self._foreseen(self.ahead.value(ino, name), lambda: super(Foreseen, self).getxattr(ino, name))

    def listxattr(self, ino: int) -> list[bytes]:
        return self._foreseen(self.ahead.names(ino), lambda: super(Foreseen, self).listxattr(ino))

    def setxattr(self, ino: int, name: bytes, value: bytes, caller: Caller = ROOT) -> None:
        self._foreseen(self.ahead.changed(ino), lambda: super(Foreseen, self).setxattr(ino, name, value, caller))

    def removexattr(self, ino: int, name: bytes) -> None:
        self._foreseen(self.ahead.changed(ino), lambda: super(Foreseen, self).removexattr(ino, name))
