"""Where the extended attributes of layers' files are: in the files, or where these can't have any in an index."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay import indexes
from fuse_overlay.errors import failure
from fuse_overlay.layers import names_of_xattrs, read_xattr
from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from fuse_overlay.index import Attributes
    from fuse_overlay.layers import Layer, Real

# xattr(7): user.* attributes are for regular files and directories only.
_CARRIERS = (stat.S_IFREG, stat.S_IFDIR)

_INDEXES_MAX = 256


class File(NamedTuple):
    """A real file of a layer: its type (S_IFMT bits), its inode number, and a way to it.

    `places`: the directories, open, and names at which it is, or soon will be; none when it has lost its name.
    """

    layer: Layer
    kind: int
    ino: int
    real: Real
    places: tuple[tuple[int, bytes], ...]


class Store:
    """Reads and writes attributes, wherever they are. All methods raise OSError."""

    def __init__(self) -> None:
        self._indexes = indexes.Indexes(_INDEXES_MAX)

    def read(self, file: File, name: bytes) -> bytes | None:
        """The value of an attribute; None if there is none."""
        if carries(file):
            return read_xattr(file.real, name)
        return self._indexed(file).get(name)

    def names(self, file: File) -> list[bytes]:
        """The names of all attributes."""
        return names_of_xattrs(file.real) if carries(file) else list(self._indexed(file))

    def change(self, file: File, changes: dict[bytes, bytes | None]) -> None:
        """Set attributes of an upper file, and remove those whose value is None here, if they are there."""
        if not carries(file):
            merged = {**self._indexed(file), **changes}
            self._put(file, {name: value for name, value in merged.items() if value is not None})
            return
        for name, value in changes.items():
            if value is not None:
                os.setxattr(file.real, name, value, follow_symlinks=isinstance(file.real, int))
            else:
                _remove(file.real, name)

    def give(self, file: File, attributes: Attributes) -> None:
        """Set the attributes of a new upper file."""
        if not carries(file):
            self._put(file, attributes)  # instead of what a killed server may have left of another of this number
            return
        for name, value in attributes.items():
            os.setxattr(file.real, name, value, follow_symlinks=isinstance(file.real, int))

    def add_place(self, file: File, directory: int, name: bytes) -> None:
        """Note that an upper file is about to be at one more place."""
        if not carries(file) and file.layer.indexed:
            self._indexes.put(directory, name, file.ino, self._indexed(file))

    def drop_place(self, layer: Layer, kind: int, ino: int, directory: int, name: bytes) -> None:
        """Note that an upper file of this type and inode number isn't at a place any more."""
        if layer.indexed and not (layer.xattrs and kind in _CARRIERS):
            self._indexes.put(directory, name, ino, {})

    def sync(self, file: File) -> None:
        """Bring what is recorded of a file beside it to the disk."""
        if not carries(file) and file.layer.indexed:
            for directory, _ in file.places:
                indexes.sync(directory)

    def _indexed(self, file: File) -> Attributes:
        if not file.layer.indexed or not file.places:
            return {}
        return self._indexes.get(*file.places[0], file.ino)

    def _put(self, file: File, attributes: Attributes) -> None:
        if not file.places:
            raise failure(errno.EOPNOTSUPP)
        if not file.layer.indexed:
            if not attributes:
                return
            indexes.write(file.layer.root.fd, {})
            file.layer.indexed = True
        for directory, name in file.places:
            self._indexes.put(directory, name, file.ino, attributes)


def carries(file: File) -> bool:
    """Whether a file has its attributes itself."""
    return file.layer.xattrs and file.kind in _CARRIERS


def _remove(real: Real, name: bytes) -> None:
    try:
        os.removexattr(real, name, follow_symlinks=isinstance(real, int))
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
