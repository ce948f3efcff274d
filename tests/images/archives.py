"""Layers for the tests, written header by header, and what becomes of them."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING, NamedTuple

from rootless_sb.image import unpack
from rootless_sb.image.decompression import Limits

if TYPE_CHECKING:
    from pathlib import Path

FILE, DIRECTORY, SYMLINK, LINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
SMALL = Limits(size=1 << 20, files=200, path=4095, headers=64 << 10, ratio=250, ratio_from=1 << 18)


class Member(NamedTuple):
    """One file of an archive."""

    name: str
    content: bytes = b""
    kind: bytes = FILE
    target: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    modified: int = 1_000_000_000
    device: tuple[int, int] = (0, 0)
    pax: dict[str, str] | None = None

    def info(self) -> tarfile.TarInfo:
        """Its header."""
        info = tarfile.TarInfo(self.name)
        info.type, info.linkname, info.mode = self.kind, self.target, self.mode
        info.uid, info.gid, info.mtime = self.uid, self.gid, self.modified
        info.devmajor, info.devminor = self.device
        info.size = len(self.content)
        info.pax_headers = dict(self.pax or {})
        return info


def directory(name: str, mode: int = 0o755, **more: int) -> Member:
    """A directory."""
    return Member(name, kind=DIRECTORY, mode=mode, **more)  # type: ignore[arg-type]  # numbers only


def symlink(name: str, target: str) -> Member:
    """A symbolic link."""
    return Member(name, kind=SYMLINK, target=target, mode=0o777)


def link(name: str, target: str) -> Member:
    """A hard link."""
    return Member(name, kind=LINK, target=target)


def archive(*members: Member, form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar archive."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form, errors="surrogateescape") as tar:
        for member in members:
            tar.addfile(member.info(), io.BytesIO(member.content))
    return data.getvalue()


def unpacked(place: Path, data: bytes, limits: Limits = SMALL) -> unpack.Unpacked:
    """Unpack an archive into the new directory `place`. Raises SbError."""
    place.mkdir()
    blob = place.with_name(f"{place.name}.blob")
    blob.write_bytes(data)
    root = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with blob.open("rb") as file, place.with_name(f"{place.name}.split").open("wb") as split:
            return unpack.unpack(file, root, split.fileno(), limits)
    finally:
        os.close(root)


def names(place: Path) -> set[str]:
    """All paths beneath a directory, but for the layer's own index."""
    found = {str(path.relative_to(place)) for path in place.rglob("*")}
    return {name for name in found if not name.endswith(".wh..wh.fuse-overlay")}
