"""Making and removing names: files, directories, links, and the whiteouts that removal leaves."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from fuse_overlay import ownership, quota, whiteout
from fuse_overlay.attributes import File
from fuse_overlay.entries import NAME_MAX, Missing, check_name
from fuse_overlay.errors import failure
from fuse_overlay.kernel.shortcut import SHORTCUT
from fuse_overlay.layers import at

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuse_overlay.aside import Aside
    from fuse_overlay.copyup import CopyUp
    from fuse_overlay.creation import New
    from fuse_overlay.entries import Entry
    from fuse_overlay.inodes import Node
    from fuse_overlay.layers import Layer
    from fuse_overlay.ownership import Owner
    from fuse_overlay.tree import Tree
    from fuse_overlay.work import Work

    # Makes a file of some kind, given a directory's descriptor and a name.
    Maker = Callable[[int, bytes], None]


class Changes:
    """Adds names to the upper layer and takes names away."""

    def __init__(self, tree: Tree, upper: Layer, work: Work, copyup: CopyUp, aside: Aside) -> None:
        self._tree = tree
        self._upper = upper
        self._work = work
        self._copyup = copyup
        self.aside = aside

    def make(self, parent: Node, name: bytes, new: New, maker: Maker) -> Entry:
        """Make a new file or directory. Raises OSError, EEXIST if the name is taken."""
        check_new_name(name)
        if not self._is_alone(parent):
            self._require_free(parent, name)
        if new.kind == stat.S_IFDIR:
            self._tree.quota.require(quota.DIRECTORY, 1)
        else:
            self._tree.quota.require_file()
        directory = self._copyup.directory(parent)
        is_plain = not new.attributes and not self._tree.records.needed(new.kind, new.owner)
        if not is_plain:
            self._make_aside(directory, name, new, maker)
        else:
            try:
                if new.kind == stat.S_IFDIR and self._upper.has_mark(directory, name):
                    raise failure(errno.EEXIST)
                maker(directory, name)
            except FileExistsError:
                self._make_aside(directory, name, new, maker)
        self.unmark(directory, name)
        parent.version += 1
        if new.kind == stat.S_IFDIR:
            entry = self._entered(parent, name, new.owner)
        else:
            st = os.stat(name, dir_fd=directory, follow_symlinks=False)
            entry = self._tree.made(parent, name, st, new.owner)
        self._tree.quota.made(entry.node, entry.st)
        self._tree.note_attributed(entry.node, bool(new.attributes))
        if is_plain:
            # A killed server may have left a record of another file that had this name and this inode number.
            self.drop_record(entry.node, directory, name)
        return entry

    def link(self, node: Node, parent: Node, name: bytes) -> Entry:
        """Give a file one more name."""
        check_new_name(name)
        if node.gone:
            raise failure(errno.ENOENT)
        self._require_free(parent, name)
        self._copyup.node(node)
        directory = self._copyup.directory(parent)
        known_in, known = self._tree.place(node)
        self._tree.store.add_place(self._tree.file(node), directory, name)
        try:
            os.link(known, name, src_dir_fd=known_in, dst_dir_fd=directory, follow_symlinks=False)
        except FileExistsError:
            aside = self._work.name()
            os.link(known, aside, src_dir_fd=known_in, dst_dir_fd=self._work.fd, follow_symlinks=False)
            self._work.move_in(aside, directory, name)
        self.unmark(directory, name)
        parent.version += 1
        return self._entered(parent, name)

    def unlink(self, parent: Node, name: bytes) -> None:
        """Take the name of a file away."""
        self.see_to_mark(parent, name)
        node, st = self._tree.locate(parent, name)
        if node.kind == stat.S_IFDIR:
            raise failure(errno.EISDIR)
        self._tree.close_kept(node)
        self.aside.keep(node)  # which may make it another file, if it is open
        left, weight = self.names_left(node, None if node.handles else st), self.weight(node)
        if node.source is not self._upper:
            self.put_whiteout(self._copyup.directory(parent), name)
        else:
            directory = self._tree.directories.get(parent, self._upper).fd
            if not self.needs_whiteout(parent, name):
                os.unlink(name, dir_fd=directory)
            elif self._work.devices:
                self._work.move_in(self._work.whiteout(), directory, name)
            else:
                self.put_whiteout(directory, name)
                os.unlink(name, dir_fd=directory)
            self.drop_record(node, directory, name)
        parent.version += 1
        self._tree.quota.removed(node, weight)
        self.lost_name(node, parent, name, left)

    def rmdir(self, parent: Node, name: bytes) -> None:
        """Remove an empty directory."""
        self.see_to_mark(parent, name)
        node = self._tree.require(parent, name)
        if node.kind != stat.S_IFDIR:
            raise failure(errno.ENOTDIR)
        if not self._tree.is_empty(node):
            raise failure(errno.ENOTEMPTY)
        weight = self.weight(node)
        if node.source is not self._upper:
            self.put_whiteout(self._copyup.directory(parent), name)
        else:
            self._remove_upper_directory(parent, name)
            self.drop_record(node, self._tree.directories.get(parent, self._upper).fd, name)
        parent.version += 1
        self._tree.quota.removed(node, weight)
        self.lost_name(node, parent, name, left=0)

    def see_to_mark(self, parent: Node, name: bytes) -> None:
        """See that no `.wh.` file is needed for a name that is too long for one: its directory becomes the upper's."""
        if not self._work.devices and len(whiteout.mark_of(name)) > NAME_MAX and parent.dirs != (self._upper,):
            self._copyup.tree(parent)

    def needs_whiteout(self, parent: Node, name: bytes) -> bool:
        """Whether a name would still stand for something if the upper didn't have it."""
        return len(parent.dirs) > 1 and not isinstance(self._tree.resolve(parent, name, first=1), Missing)

    def unmark(self, directory: int, name: bytes) -> None:
        """Remove a `.wh.` file for a name that stands for something again."""
        if not self._work.devices and self._upper.has_mark(directory, name):
            os.unlink(whiteout.mark_of(name), dir_fd=directory)

    def clear_marks(self, node: Node, parent: Node, name: bytes) -> None:
        """See that another directory can be renamed over this empty one, in which the upper may have marks."""
        directory = self._copyup.directory(node)
        marks = os.listdir(at(directory, b"."))
        if not marks:
            return
        if not self._work.xattrs:
            # A directory that is opaque by a file in it is never empty. A crash after this leaves the name free.
            self._remove_upper_directory(parent, name)
            return
        self._work.set_opaque(directory)
        for mark in marks:
            os.unlink(mark, dir_fd=directory)
        self._tree.own(node)

    def drop_record(self, node: Node, directory: int, name: bytes) -> None:
        """Take back what an index says of an upper file that isn't at this place any more."""
        self._tree.store.drop_place(self._upper, node.real_kind, node.key[1], directory, name)

    def names_left(self, node: Node, known: os.stat_result | None = None) -> int:
        """How many names a file (`known`, if given) will have when it has lost one; 0 for directories."""
        return 0 if node.kind == stat.S_IFDIR else self._tree.link_count(node, known) - 1

    def weight(self, node: Node) -> os.stat_result | None:
        """What a file of the upper is before it loses a name, if that is counted."""
        if not self._tree.quota.active or node.source is not self._upper:
            return None
        return self._tree.attributes(node).st

    def lost_name(self, node: Node, parent: Node, name: bytes, left: int) -> None:
        """Note in the table that a name of this node is gone, and that it has `left` others."""
        table = self._tree.table
        SHORTCUT.hide(node.ino)
        if self._tree.links is not None and node.source is not self._upper and node.kind != stat.S_IFDIR:
            with suppress(OSError):  # the name is lost, and whether that can be counted is no matter
                st = self._tree.attributes(node).st
                if st.st_nlink > 1:
                    self._tree.links.lose(node.key, st, left)
        if not table.drop_name(node, parent, name):
            node.gone = True  # or its other names aren't known yet: then it is found again by its key
            if left <= 0:
                self._end(node)
        table.settle(node)

    def _end(self, node: Node) -> None:
        self._tree.table.detach(node)
        SHORTCUT.take_number(node.ino)  # a lower file may be seen at another path as well, as another one then
        for layer in node.dirs:
            self._tree.directories.close(node, layer)
        node.dirs = ()
        node.version += 1
        self._tree.origins.pop(node.key, None)
        if not node.handles:
            SHORTCUT.show_gone(node.ino)

    def _remove_upper_directory(self, parent: Node, name: bytes) -> None:
        directory = self._tree.directories.get(parent, self._upper).fd
        if self.needs_whiteout(parent, name):
            if self._work.devices:
                self._work.swap_in(self._work.whiteout(), directory, name)
                return
            self.put_whiteout(directory, name)
        try:
            os.rmdir(name, dir_fd=directory)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            # What is left in it are marks only.
            aside = self._work.name()
            os.rename(name, aside, src_dir_fd=directory, dst_dir_fd=self._work.fd)
            self._work.discard(aside)

    def put_whiteout(self, directory: int, name: bytes) -> None:
        """Take a name away from the layers below. With device whiteouts the name must be free in the upper."""
        if self._work.devices:
            os.mknod(name, stat.S_IFCHR | 0o600, 0, dir_fd=directory)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
            os.close(os.open(whiteout.mark_of(name), flags, 0o600, dir_fd=directory))

    def _make_aside(self, directory: int, name: bytes, new: New, maker: Maker) -> None:
        """Make a file that isn't complete at once, or that takes a whiteout's place: in the work directory first."""
        aside = self._work.name()
        try:
            maker(self._work.fd, aside)
            st = os.stat(aside, dir_fd=self._work.fd, follow_symlinks=False)
            file = File(self._upper, new.kind, st.st_ino, at(self._work.fd, aside), ((directory, name),))
            self._tree.store.give(file, {**new.attributes, **self._tree.records.of_new(new.kind, new.owner)})
            there = self._upper.stat(directory, name)
            if there is not None and not whiteout.is_whiteout(there):
                raise failure(errno.EEXIST)
            if new.kind == stat.S_IFDIR and (there is not None or self._upper.has_mark(directory, name)):
                self._work.set_opaque(self._work.fd, aside)
            if new.kind == stat.S_IFDIR and there is not None:
                self._work.swap_in(aside, directory, name)
            else:
                self._work.move_in(aside, directory, name)
        except BaseException:
            self._work.discard(aside)
            raise

    def _is_alone(self, parent: Node) -> bool:
        """Whether making a file tells by itself that something is at its name: nothing is below, and nobody counts."""
        return parent.dirs == (self._upper,) and not self._upper.file_whiteouts and not self._tree.quota.active

    def _require_free(self, parent: Node, name: bytes) -> None:
        """What is at the name in the upper after this, is a whiteout. Raises OSError EEXIST."""
        if not isinstance(self._tree.resolve(parent, name), Missing):
            raise failure(errno.EEXIST)

    def _entered(self, parent: Node, name: bytes, owner: Owner | None = None) -> Entry:
        entry = self._tree.enter(parent, name, owner=owner)
        if isinstance(entry, Missing):
            raise failure(errno.ESTALE)
        return entry


def check_new_name(name: bytes) -> None:
    """Refuse the names that would be marks in the upper: nobody inside may forge a whiteout. Raises OSError."""
    check_name(name)
    if whiteout.is_mark(name):
        raise failure(errno.EPERM)


def maker_of(new: New, target: bytes = b"") -> Maker:
    """What makes a directory, symbolic link (to `target`), FIFO or socket.

    Raises OSError EPERM for device nodes: they come with images only.
    """
    kind = new.kind
    mode = ownership.real_mode(kind, new.owner.mode)
    if kind == stat.S_IFDIR:
        return lambda directory, name: os.mkdir(name, mode, dir_fd=directory)
    if kind == stat.S_IFLNK:
        return lambda directory, name: os.symlink(target, name, dir_fd=directory)
    if kind in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK):
        return lambda directory, name: os.mknod(name, kind | mode, dir_fd=directory)
    raise failure(errno.EPERM)
