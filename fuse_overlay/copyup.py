"""Copy-up: giving a file of a lower layer a copy in the upper, so that it can be changed.

Every copy is made in the work directory and renamed into place when it is complete. All of it happens within one
request, in one thread, with nothing awaited in between: no two copy-ups are ever under way together.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay import copydata, listing, origin, ownership, xattrs
from fuse_overlay.attributes import File, carries
from fuse_overlay.entries import Missing
from fuse_overlay.errors import failure
from fuse_overlay.kernel.shortcut import SHORTCUT
from fuse_overlay.layers import at, open_regular
from fuse_overlay.times import keeping_times
from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuse_overlay.entries import Entry
    from fuse_overlay.index import Attributes
    from fuse_overlay.inodes import Node
    from fuse_overlay.layers import Layer
    from fuse_overlay.links import Links
    from fuse_overlay.tree import Tree
    from fuse_overlay.work import Work


class Copy(NamedTuple):
    """A copy in the work directory: what it is, and whether extended attributes are shown of it."""

    st: os.stat_result
    attributed: bool


class CopyUp:
    """Brings nodes of a tree to its upper layer."""

    def __init__(self, tree: Tree, upper: Layer, work: Work, links: Links) -> None:
        self._tree = tree
        self._links = links
        self._upper = upper
        self._work = work

    def directory(self, node: Node) -> int:
        """Give a directory, and those above it, a counterpart in the upper. Returns a descriptor of it (O_PATH).

        Its entries stay where they are. Raises OSError; ENOENT for a directory that was removed.
        """
        if node.gone:
            raise failure(errno.ENOENT)
        missing = []
        for above in node.lineage():
            if above.source is self._upper:
                break
            missing.append(above)
        for above in reversed(missing):
            self._one_directory(above)
        return self._tree.directories.get(node, self._upper).fd

    def node(self, node: Node, length: int | None = None) -> None:
        """Bring a node to the upper; of a regular file only the first `length` bytes if that is given.

        Raises OSError: EACCES when the data is needed and the user may not read it.
        """
        if node.source is self._upper:
            return
        if node.fixed:
            raise failure(errno.EROFS)  # its copy would take the place of the original under all of its names
        if node.kind == stat.S_IFDIR:
            self.directory(node)
            return
        entry = self._tree.attributes(node)
        self._tree.quota.require(_needed(entry, length), 1)
        if node.gone:
            self._orphan(node, entry, length)
            return
        parent = node.parent
        if parent is None:
            raise failure(errno.ENOENT)
        directory = self.directory(parent)
        name = self._work.name()
        target = None
        try:
            target = self._build(name, node, entry, length)
            copy = self._dress(name, node, entry, ((directory, node.name),), target)
            if length is not None and length < entry.st.st_size:
                os.utime(name, dir_fd=self._work.fd)  # it comes into place as a file that was changed
            self._remember_names(node, entry.st, copy.st, name, ((directory, node.name),))
            self._move_in(name, directory, node.name)
        except BaseException:
            self._work.discard(name)
            raise
        finally:
            if target is not None:
                os.close(target)
        self._now_upper(node, copy.st, entry)
        self._tree.note_attributed(node, copy.attributed)
        parent.version += 1
        self._retarget(node)
        self._link_aliases(node)

    def name(self) -> bytes:
        """A free name, for `stage`."""
        return self._work.name()

    def stage(self, name: bytes, copy: Callable[[int], None]) -> None:
        """Have data copied to a new file in the work directory; `copy` is given its descriptor. Any thread may do this.

        Raises OSError; then there is no such file.
        """
        target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._work.fd)
        try:
            copy(target)
        except BaseException:
            self._work.discard(name)
            raise
        finally:
            os.close(target)

    def discard(self, name: bytes) -> None:
        """Remove what `stage` has made, if it is still there. Raises OSError."""
        self._work.discard(name)

    def relink(self, parent: Node, name: bytes, st: os.stat_result) -> bool:
        """Make a name of a lower file, whose stat result is `st`, a name of its copy. False if it has no copy."""
        number = self._tree.table.numbers.derive((st.st_dev, st.st_ino))
        link = self._links.find(number, st.st_mtime_ns)
        if link is None:
            return False
        directory = self.directory(parent)
        with keeping_times(directory):
            self._links.take(link, stat.S_IFMT(st.st_mode), directory, name)
        parent.version += 1
        return True

    def tree(self, node: Node) -> None:
        """Bring a directory and all that is in it to the upper, where it hides what is below from then on.

        Each copy leaves the merged tree as it was, so none of it is seen and none does harm if it isn't finished.
        The mark comes last, and at the top only: below a directory that is the upper's alone, all are.
        """
        table = self._tree.table
        copied: list[Node] = []
        try:
            self._copy_below(node, copied)
            if len(node.dirs) > 1:
                self._work.set_opaque(self.directory(node))
            for directory in copied:
                for layer in directory.dirs[1:]:
                    self._tree.directories.close(directory, layer)
                self._tree.own(directory)
                directory.version += 1
        finally:
            for directory in reversed(copied):
                table.forget(directory, 1)

    def _copy_below(self, top: Node, copied: list[Node]) -> None:
        """Copy a directory and all in it up. Adds the directories to `copied`, each held by a look-up of ours."""
        waiting = [top]
        while waiting:
            directory = waiting.pop()
            directory.lookups += 1
            copied.append(directory)
            self.directory(directory)
            if directory.dirs == (self._upper,):
                continue
            listing.keep_order(self._tree, directory)
            for name in self._tree.scan(directory):
                entry = self._tree.enter(directory, name)
                if isinstance(entry, Missing):
                    continue
                self.node(entry.node)
                if entry.node.kind == stat.S_IFDIR:
                    waiting.append(entry.node)
                else:
                    self._tree.table.settle(entry.node)

    def _one_directory(self, node: Node) -> None:
        """Give a directory a counterpart in the upper; the one above it has one."""
        parent = node.parent
        if parent is None:
            raise failure(errno.EROFS)
        entry = self._tree.attributes(node)
        directory = self._tree.directories.get(parent, self._upper).fd
        name = self._work.name()
        try:
            os.mkdir(name, 0o700, dir_fd=self._work.fd)
            copy = self._dress(name, node, entry, ((directory, node.name),))
            self._move_in(name, directory, node.name)
        except BaseException:
            self._work.discard(name)
            raise
        self._now_upper(node, copy.st, entry)
        node.dirs = (self._upper, *node.dirs)
        parent.version += 1

    def _build(self, name: bytes, node: Node, entry: Entry, length: int | None) -> int | None:
        """Make a copy of anything but a directory in the work directory. Returns a descriptor of a regular file."""
        work = self._work.fd
        directory, source = self._tree.place(node)
        mode = ownership.real_mode(node.kind, entry.owner.mode)
        if node.kind == stat.S_IFREG:
            wanted = entry.st.st_size if length is None else min(length, entry.st.st_size)
            if self._take_staged(name, node, entry, wanted):
                os.chmod(at(work, name), mode)
                return None
            target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=work)
            try:
                self._copy_data(node, entry, target, wanted)
            except BaseException:
                os.close(target)
                raise
            return target
        if node.kind == stat.S_IFLNK:
            os.symlink(os.readlink(source, dir_fd=directory), name, dir_fd=work)
        elif node.kind in (stat.S_IFIFO, stat.S_IFSOCK):
            os.mknod(name, node.kind | mode, dir_fd=work)
        else:
            os.mknod(name, stat.S_IFREG | 0o600, dir_fd=work)  # root alone could make the device node
        return None

    def _take_staged(self, name: bytes, node: Node, entry: Entry, length: int) -> bool:
        """Give a copy of the data that there is already this name; False if there is none, or of what was before."""
        known = self._tree.known
        if known is None or node not in known.copies:
            return False
        staged, st, copied = known.copies[node]
        now = entry.st
        if copied != length or (st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns) != (
            *(now.st_dev, now.st_ino, now.st_size),
            *(now.st_mtime_ns, now.st_ctime_ns),
        ):
            return False
        try:
            os.rename(staged, name, src_dir_fd=self._work.fd, dst_dir_fd=self._work.fd)
        except FileNotFoundError:  # there was no room for it
            return False
        return True

    def _copy_data(self, node: Node, entry: Entry, target: int, length: int) -> None:
        if length == 0:
            return  # nothing to read: the user may even be forbidden to
        if node.descriptor is not None:
            copydata.copy(node.descriptor, target, length)
            return
        directory, name = self._tree.place(node)
        source = open_regular(name, os.O_RDONLY, directory, node.source, own=node.own)
        try:
            copydata.copy(source, target, length)
        finally:
            os.close(source)

    def _dress(
        self, name: bytes, node: Node, entry: Entry, places: tuple[tuple[int, bytes], ...], fd: int | None = None
    ) -> Copy:
        """Give a copy in the work directory its original's attributes, access and modification time last.

        `places`: where it will be, if it is to have a name. `fd`: a descriptor of it, if there is one.
        """
        shown: Attributes = {}
        work = self._work.fd
        place = at(work, name) if fd is None else fd
        if node.kind not in (stat.S_IFLNK, stat.S_IFREG):  # a regular file was made with its mode
            os.chmod(place, ownership.real_mode(node.kind, entry.owner.mode))
        st = os.stat(name, dir_fd=work, follow_symlinks=False)
        copy = File(self._upper, stat.S_IFMT(st.st_mode), st.st_ino, place, places)
        if places or carries(copy):
            known = origin.encode(origin.of(node.ino, node.path, entry.st))
            if node.attributed is not False:
                shown = self._tree.kept(node)
            recorded = self._tree.records.of_new(copy.kind, entry.owner, entry.device)
            self._tree.store.give(copy, {**shown, xattrs.ORIGIN: known, **recorded})
        times = (entry.st.st_atime_ns, entry.st.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=work, follow_symlinks=False)
        if self._tree.quota.active:
            st = os.stat(name, dir_fd=work, follow_symlinks=False)  # attributes may take blocks of their own
        return Copy(st, bool(shown))

    def _move_in(self, name: bytes, directory: int, target: bytes) -> None:
        """Put a copy into place."""
        with keeping_times(directory):
            self._work.move_in(name, directory, target)

    def _now_upper(self, node: Node, st: os.stat_result, entry: Entry) -> None:
        self._tree.origins[st.st_dev, st.st_ino] = node.ino
        self._tree.table.rekey(node, (st.st_dev, st.st_ino))
        SHORTCUT.take_number(node.ino)
        SHORTCUT.hide(node.ino)
        node.source = self._upper
        node.slow = node.slow and (node.kind == stat.S_IFDIR or self._upper.root.dev in self._tree.mounts.remote)
        node.owner = entry.owner
        node.rdev = entry.device.rdev if entry.device is not None else None
        self._tree.quota.made(node, st)
        if node.handles and self._tree.quota.active:
            self._tree.quota.hold(node, st)

    def _remember_names(
        self, node: Node, st: os.stat_result, copy: os.stat_result, name: bytes, places: tuple[tuple[int, bytes], ...]
    ) -> None:
        """See that the other names of a lower file will be its copy's, which is `name` in the work directory."""
        if st.st_nlink > 1:
            file = File(self._upper, stat.S_IFMT(copy.st_mode), copy.st_ino, b"", places)
            number = self._tree.table.numbers.derive(node.key)
            count = 0 if node.gone else 1 + len(node.aliases or ())
            self._links.add(node.key, number, st, file, name, count)

    def _link_aliases(self, node: Node) -> None:
        """Give a copy all the names that its original is known by, so that it stays one file under them."""
        aliases = list(node.aliases or ())
        if not aliases:
            return
        original = File(self._upper, node.real_kind, node.key[1], b"", (self._tree.place(node),))
        for parent, name in aliases:
            directory, known = self._tree.place(node)
            above = self.directory(parent)
            self._tree.store.add_place(original, above, name)
            with keeping_times(above):
                os.link(known, name, src_dir_fd=directory, dst_dir_fd=above, follow_symlinks=False)
            parent.version += 1

    def _orphan(self, node: Node, entry: Entry, length: int | None) -> None:
        """Give an open lower file that has lost its name a copy, which has none either."""
        if node.kind != stat.S_IFREG or node.descriptor is None:
            raise failure(errno.ESTALE)
        name = self._work.name()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        target = os.open(name, flags, 0o600, dir_fd=self._work.fd)
        try:
            wanted = entry.st.st_size if length is None else min(length, entry.st.st_size)
            self._copy_data(node, entry, target, wanted)
            self._dress(name, node, entry, (), target)
            self._remember_names(node, entry.st, os.fstat(target), name, ())
            self._now_upper(node, os.fstat(target), entry)
            _point(node.descriptors, target)
        finally:
            self._work.discard(name)
            os.close(target)

    def _retarget(self, node: Node) -> None:
        """Let all descriptors that the original is open by stand for the copy: who reads by one, sees later writes."""
        if node.descriptors:
            directory, name = self._tree.place(node)
            target = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                _point(node.descriptors, target)
            finally:
                os.close(target)


def _needed(entry: Entry, length: int | None) -> int:
    """How many bytes a copy of the first `length` ones takes; None: of all. Holes take none."""
    if entry.node.kind != stat.S_IFREG:
        return 0
    wanted = entry.st.st_size if length is None else min(length, entry.st.st_size)
    return min(wanted, entry.st.st_blocks * 512)


def _point(descriptors: list[int], target: int) -> None:
    for fd in descriptors:
        os.dup2(target, fd, inheritable=False)
