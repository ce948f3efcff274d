"""Extended attributes as the merged tree shows them: those that are kept, and of lower files some real ones too.

In a plain tree nothing is kept: what has such a name there means nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_overlay import acl, xattrs
from fuse_overlay.attributes import carries
from fuse_overlay.layers import names_of_xattrs, read_xattr

if TYPE_CHECKING:
    from fuse_overlay.attributes import File, Store
    from fuse_overlay.index import Attributes
    from fuse_overlay.ownership import IdMap


class Extended:
    """Reads what is shown. All methods raise OSError."""

    def __init__(self, store: Store, uids: IdMap, gids: IdMap) -> None:
        self._store = store
        self._uids = uids
        self._gids = gids

    def read(self, file: File, name: bytes) -> bytes | None:
        """The value of the attribute that is `name` inside; None if there is none."""
        kept = xattrs.kept_as(name)
        if kept is None:
            return None
        value = self._store.read(file, kept) if file.layer.marks or xattrs.visible(name) else None
        if value is None and _counts(name, file):
            return self._translated(name, read_xattr(file.real, name))
        return value

    def names(self, file: File) -> list[bytes]:
        """The names of the attributes that are shown."""
        stored = self._store.names(file)
        names = stored if file.layer.marks else [name for name in stored if xattrs.visible(name)]
        shown = {name for kept in names if (name := xattrs.shown_as(kept)) is not None}
        if file.layer.real:
            real = stored if carries(file) else names_of_xattrs(file.real)
            shown.update(name for name in real if _counts(name, file))
        return sorted(shown)

    def kept(self, file: File) -> Attributes:
        """All that is shown, under the names for a layer."""
        given = {}
        for name in self.names(file):
            kept, value = xattrs.kept_as(name), self.read(file, name)
            if kept is not None and value is not None:
                given[kept] = value
        return given

    def _translated(self, name: bytes, value: bytes | None) -> bytes | None:
        """A real attribute with the ids inside."""
        if value is None or name == xattrs.CAPABILITY:
            return value
        parsed = acl.parse(value)
        return acl.format_value(acl.mapped(parsed, self._uids, self._gids)) if parsed is not None else None


def _counts(name: bytes, file: File) -> bool:
    """Whether a real attribute of this name is shown. Not the capabilities of a plain tree's files: they are the host's
    to give, and who hasn't got them inside couldn't even execute the file (EPERM, execve(2)).
    """
    if name == xattrs.CAPABILITY and not file.layer.marks:
        return False
    return name in xattrs.AS_DATA and file.layer.real
