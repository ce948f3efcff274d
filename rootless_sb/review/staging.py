"""Making what is new beside its target: files, whole directories, links."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay import copydata
from fuse_overlay.descent import open_directory
from fuse_overlay.layers import at
from rootless_sb import faults
from rootless_sb.review import dressing, sites, stamps
from rootless_sb.review.changes import is_new_directory
from rootless_sb.review.layer import item_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rootless_sb.review.actions import Action, Decided, Key, Site, Spot, Stamp
    from rootless_sb.review.changes import Change, Item
    from rootless_sb.review.dressing import Above
    from rootless_sb.review.layer import LayerView
    from rootless_sb.review.owners import Identity

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# link(2): not from this file, not across file systems, not more names.
_UNLINKABLE = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOENT, errno.EOPNOTSUPP)


class Stage:
    """Makes what `decide` has found a spot for.

    `attributes`: the extended attributes that the sandbox sees, by path. `keys`: what was made beside its target, which
    file each is.
    """

    def __init__(
        self,
        view: LayerView,
        root: int,
        places: Sequence[Site],
        who: Identity,
        attributes: Mapping[bytes, Mapping[bytes, bytes]],
    ) -> None:
        self.keys: dict[bytes, Key] = {}
        self._attributes = attributes
        self._view = view
        self._root = root
        self._places = places
        self._who = who
        self._links: dict[Key, Spot] = {}
        # The directory that was used last.
        self._above: tuple[Spot, Above] | None = None

    def make_all(self, decided: Decided) -> None:
        """Make everything. Raises OSError with the path in the sandbox at which it happened."""
        directories = []
        for change, spot in decided.spots:
            try:
                directory = self._directory(spot)
                self._make(change, spot, directory)
                if is_new_directory(change):
                    directories.append((change, spot))
                if len(spot.names) == 1:
                    st = os.stat(spot.names[0], dir_fd=directory.fd, follow_symlinks=False)
                    self.keys[spot.names[0]] = (st.st_dev, st.st_ino)
            except OSError as error:
                error.filename = change.path
                raise
            faults.point("apply-file-staged")
        for change, spot in reversed(directories):  # what is in them comes first: it changes their times
            above = self._directory(spot)
            made = os.open(spot.names[-1], _DIRECTORY, dir_fd=above.fd)
            try:
                dressing.dress(made, change, self._who, self._given(change), above)
            finally:
                os.close(made)
        self.close()

    def close(self) -> None:
        """Let go of the last directory."""
        if self._above is not None:
            os.close(self._above[1].fd)
            self._above = None

    def _make(self, change: Change, spot: Spot, above: Above) -> None:
        """Make one file; a directory isn't complete until all in it is."""
        after = change.after
        assert after is not None
        fd, name = above.fd, spot.names[-1]
        if after.kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=fd)
        elif after.st.st_nlink > 1 and self._link(change, fd, spot):
            return
        elif after.kind == stat.S_IFREG:
            self._copy(change, name, above)
        else:
            if after.kind == stat.S_IFLNK:
                os.symlink(after.target, name, dir_fd=fd)
            else:
                os.mknod(name, after.kind | 0o600, after.rdev, dir_fd=fd)
            dressing.dress(at(fd, name), change, self._who, self._given(change), above)

    def _given(self, change: Change) -> dict[bytes, bytes]:
        """The extended attributes that a new file is to have."""
        return dressing.host_xattrs(self._view, change, self._who, self._attributes[change.path])

    def _copy(self, change: Change, name: bytes, above: Above) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(name, flags, 0o600, dir_fd=above.fd)
        try:
            source = self._view.open_changed(change)
            try:
                copydata.copy(source, target, os.fstat(source).st_size)
            finally:
                os.close(source)
            dressing.dress(target, change, self._who, self._given(change), above)
        finally:
            os.close(target)

    def _link(self, change: Change, directory: int, spot: Spot) -> bool:
        """Make one more name of a file that is there already; whether that could be done."""
        assert change.after is not None
        key = (change.after.st.st_dev, change.after.st.st_ino)
        known = self._links.setdefault(key, spot)
        unchanged = self._view.unchanged_links.get(key)
        if known is not spot:
            source = self._open(known)
            name = known.names[-1]
        elif unchanged is not None:
            above, _, name = unchanged.rpartition(b"/")
            source = sites.open_path(self._root, above)
        else:
            return False
        try:
            os.link(name, spot.names[-1], src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _UNLINKABLE:
                raise
            return False
        finally:
            os.close(source)
        return True

    def _directory(self, spot: Spot) -> Above:
        """The directory in which something is made."""
        here = spot._replace(names=spot.names[:-1])
        if self._above is None or self._above[0] != here:
            opened = self._open(spot)
            self.close()
            item = None if here.names else self._item(spot.site)
            self._above = (here, dressing.look_above(opened, item))
        return self._above[1]

    def _open(self, spot: Spot) -> int:
        site = sites.open_site(self._root, self._places[spot.site])
        if len(spot.names) == 1:
            return site
        try:
            return open_directory(site, list(spot.names[:-1]))
        finally:
            os.close(site)

    def _item(self, site: int) -> Item:
        tree = self._view.lower
        node = self._view.directory_at(tree, self._places[site].path)
        return item_of(tree, tree.attributes(node))


def stamped(root: int, places: Sequence[Site], actions: Sequence[Action], keys: Mapping[bytes, Key]) -> list[Action]:
    """The actions, with what was made for each, by `Stage.keys`, and what it is now that all is. Raises OSError."""
    found: dict[bytes, Stamp] = {}

    def look(directory: int, action: Action) -> None:
        st = os.stat(action.staged, dir_fd=directory, follow_symlinks=False)
        try:
            found[action.staged] = stamps.look(directory, action.staged, st)
        except PermissionError:  # the mode of a directory keeps its owner out
            return

    sites.each(root, places, [action for action in actions if action.staged in keys], look)
    return [each._replace(new=keys.get(each.staged), made=found.get(each.staged)) for each in actions]
