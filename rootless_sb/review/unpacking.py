"""A tar archive unpacked into a directory of a sandbox that doesn't run.

`tarfile` reads it, and nothing else: whoever made it may mean ill, so each file is made by the directory that it is in
and its name, and no symbolic link is followed below the target.
"""

from __future__ import annotations

import os
import stat
import tarfile
import zlib
from typing import IO, TYPE_CHECKING

from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import files
from rootless_sb.review import merged
from rootless_sb.ui.changes import shown
from rootless_sb.ui.messages import warn

if TYPE_CHECKING:
    from fuse_overlay.inodes import Node
    from fuse_overlay.overlay import Overlay
    from rootless_sb.review.making import Maker

_CHUNK = 1 << 20  # bytes
_BEFORE = 0o755  # the mode of a directory that the archive doesn't list
_UNREADABLE = (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError)
_HINT = "sb cp - NAME:DIR reads what tar -c writes"


def unpack(archive: IO[bytes], overlay: Overlay, maker: Maker, target: bytes) -> None:
    """Unpack an archive, which may be compressed, into the directory `target`. Raises SbError."""
    with Doing(f"cannot copy to {shown(target)}", "DIR is a directory that is there"):
        top = merged.find(overlay.tree, target, follow=True).node
        if top.kind != stat.S_IFDIR:
            raise SbError(f"cannot copy to {shown(target)}", "not a directory", "an archive is unpacked into one")
    try:
        with tarfile.open(fileobj=archive, mode="r|*", encoding="utf-8", errors="surrogateescape") as opened:
            _Unpacking(opened, maker, top).run()
    except _UNREADABLE as error:
        raise SbError("cannot read the archive", str(error), _HINT) from error


class _Unpacking:
    def __init__(self, archive: tarfile.TarFile, maker: Maker, top: Node) -> None:
        self._archive = archive
        self._maker = maker
        self._top = top
        self._directories: list[tuple[Node, int, int]] = []  # with their modes and times, which their files change

    def run(self) -> None:
        """Unpack it. Raises SbError, and what tarfile raises."""
        for info in self._archive:
            with Doing(f"cannot copy {shown(os.fsencode(info.name))}"):
                self._one(info)
        for node, mode, time in reversed(self._directories):
            with Doing("cannot finish a directory"):
                self._maker.finish(node, mode, time, time)

    def _one(self, info: tarfile.TarInfo) -> None:
        *parents, name = _parts(info.name) or [b""]
        time = int(info.mtime * 1_000_000_000)
        if not name:  # the target itself, which is there
            return
        above = self._above(parents)
        if info.isdir():
            self._directories.append((self._maker.directory(above, name, stat.S_IRWXU), info.mode, time))
        elif info.isreg():
            node = self._maker.file(above, name, info.mode, lambda target: self._fill(info, target))
            self._maker.finish(node, info.mode, time, time)
        elif info.issym():
            self._maker.symlink(above, name, os.fsencode(info.linkname))
        elif info.islnk():
            *others, other = _parts(info.linkname) or [b""]
            first = self._maker.there(self._above(others), other, stat.S_IFREG) if other else None
            if first is None:
                raise SbError(f"cannot copy {info.name}", f"its other name {info.linkname} isn't there")
            self._maker.link(first, above, name)
        else:
            warn(f"left out: {shown(os.fsencode(info.name))}: neither a file nor a directory nor a symlink")

    def _above(self, names: list[bytes]) -> Node:
        """The directory with this path below the target, made where it isn't there. Raises OSError."""
        node = self._top
        for name in names:
            node = self._maker.directory(node, name, _BEFORE)
        return node

    def _fill(self, info: tarfile.TarInfo, target: int) -> None:
        data = self._archive.extractfile(info)
        assert data is not None  # of a regular file it is
        while piece := data.read(_CHUNK):
            files.write_all(target, piece)


def _parts(path: str) -> list[bytes]:
    """The names of a path in an archive, which begins at the target. Raises SbError: it leads out of there."""
    parts = [part for part in os.fsencode(path).split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise SbError(f"cannot copy {path}", "its path has .. in it", "don't trust this archive")
    return parts
