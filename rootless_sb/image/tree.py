"""A layer's directory tree while it is written: each file by its directory's descriptor and one name.

No symbolic link is followed and no path but one name is ever given to the kernel, so nothing that a layer holds leads
out of its tree.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay import indexes, ownership, whiteout
from fuse_overlay.layers import at, at_fd
from rootless_sb.errors import SbError
from rootless_sb.image import entries
from rootless_sb.kernel import files, trees

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless_sb.image.entries import Entry

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_IMPLIED = ownership.Owner(0, 0, 0o755)  # a directory that the layer doesn't list, only what is in it


class Tree:
    """The tree of one layer in the directory `root` (a descriptor), which is empty and nobody else's.

    `others`: mode bits that real files get in addition, for a store whose layers others may read. Methods raise OSError
    and SbError.
    """

    def __init__(self, root: int, others: int) -> None:
        self._root = root
        self._others = others
        self._parent: tuple[bytes, ...] = ()
        self._parent_fd = root
        self._xattrs = _has_xattrs(root)
        self._makes_whiteouts = True  # as overlayfs' character devices; tried with the first one
        # What goes to the indexes: by directory, then by name; of all files where none can have attributes.
        self._indexed: dict[tuple[bytes, ...], dict[bytes, dict[bytes, bytes]]] = {}
        # When directories were changed: set at the end, since each new file in one changes it.
        self._modified: dict[tuple[bytes, ...], int] = {}
        self._set_attributes(root, (), b".", {ownership.XATTR: ownership.format_record(_IMPLIED)})

    def write(self, entry: Entry, content: Iterable[tuple[int, memoryview]]) -> None:
        """Make one entry, in place of what has its name. `content`: a file's bytes, each piece with its offset."""
        if entry.name == b".":
            self._set_attributes(self._root, (), b".", entry.attributes)
            self._modified[()] = entry.modified
        elif entry.kind == entries.OPAQUE:
            self._mark_opaque(self._enter(entry.parent))
        elif entry.kind == entries.WHITEOUT:
            self._take_away(entry)
        elif entry.kind == entries.HARD_LINK:
            self._link(entry)
        elif entry.kind == entries.DIRECTORY:
            self._make_directory(entry)
        elif entry.kind != entries.NOTHING:
            self._make_file(entry, content)

    def finish(self) -> None:
        """Write the indexes and the directories' times."""
        self._indexed.setdefault((), {})
        for parent, attributes in self._indexed.items():
            if attributes or not parent:
                indexes.write(self._enter(parent), attributes)
        for path, modified in sorted(self._modified.items(), reverse=True):  # what is beneath comes first
            os.utime(at_fd(self._enter(path)), ns=(modified, modified))
        self._leave()

    def _enter(self, path: tuple[bytes, ...]) -> int:
        """A descriptor of a directory of the tree, made if need be; good until the next call."""
        if path == self._parent:
            return self._parent_fd
        self._leave()
        fd = self._root
        try:
            for depth, name in enumerate(path):
                below = self._step(fd, path[:depth], name)
                if fd != self._root:
                    os.close(fd)
                fd = below
        except BaseException:
            if fd != self._root:
                os.close(fd)
            raise
        self._parent, self._parent_fd = path, fd
        return fd

    def _leave(self) -> None:
        if self._parent_fd != self._root:
            os.close(self._parent_fd)
        self._parent, self._parent_fd = (), self._root

    def _step(self, fd: int, parent: tuple[bytes, ...], name: bytes) -> int:
        """A descriptor of the directory `name` in `fd`, which is made if nothing or a whiteout is there."""
        try:
            return os.open(name, _DIRECTORY, dir_fd=fd)
        except FileNotFoundError:
            return self._imply(fd, parent, name, was_gone=self._is_gone(fd, name, None))
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
        if self._is_gone(fd, name, self._stat(fd, name)):
            self._remove(fd, parent, name)
            return self._imply(fd, parent, name, was_gone=True)
        path = os.fsdecode(b"/".join((*parent, name)))
        why = "it is no directory, but a file of the layer is to be in it"
        raise SbError(f"the layer's file {path}", why, "don't trust this image")

    def _imply(self, fd: int, parent: tuple[bytes, ...], name: bytes, *, was_gone: bool) -> int:
        """Make a directory that the layer doesn't list. `was_gone`: lower layers' of that name is taken away."""
        os.mkdir(name, self._real_mode(stat.S_IFDIR, _IMPLIED.mode), dir_fd=fd)
        self._set_attributes(at(fd, name), parent, name, {ownership.XATTR: ownership.format_record(_IMPLIED)})
        below = os.open(name, _DIRECTORY, dir_fd=fd)
        if was_gone:
            self._mark_opaque(below)
        return below

    def _make_directory(self, entry: Entry) -> None:
        fd = self._enter(entry.parent)
        existing = self._stat(fd, entry.name)
        was_gone = self._is_gone(fd, entry.name, existing)
        if existing is None or not stat.S_ISDIR(existing.st_mode):
            self._remove(fd, entry.parent, entry.name)
            os.mkdir(entry.name, self._real_mode(stat.S_IFDIR, entry.mode), dir_fd=fd)
        else:
            os.chmod(entry.name, self._real_mode(stat.S_IFDIR, entry.mode), dir_fd=fd)
        self._set_attributes(at(fd, entry.name), entry.parent, entry.name, entry.attributes)
        path = (*entry.parent, entry.name)
        self._modified[path] = entry.modified
        if was_gone:
            self._mark_opaque(self._enter(path))

    def _make_file(self, entry: Entry, content: Iterable[tuple[int, memoryview]]) -> None:
        fd = self._enter(entry.parent)
        times = (entry.modified, entry.modified)
        if entry.kind in (entries.SYMLINK, entries.FIFO):
            self._make(fd, entry)
            self._index(entry.parent, entry.name, entry.attributes)
            os.utime(entry.name, ns=times, dir_fd=fd, follow_symlinks=False)
            return
        new = self._open_new(fd, entry)
        try:
            end = 0
            for offset, piece in content:
                if offset != end:
                    os.lseek(new, offset, os.SEEK_SET)
                files.write_all(new, piece)
                end = offset + len(piece)
            if end != entry.size:
                os.ftruncate(new, entry.size)
            self._set_attributes(new, entry.parent, entry.name, entry.attributes)
            os.utime(new, ns=times)
        finally:
            os.close(new)

    def _open_new(self, fd: int, entry: Entry) -> int:
        mode = self._real_mode(stat.S_IFREG, entry.mode)
        try:
            return os.open(entry.name, _NEW_FILE, mode, dir_fd=fd)
        except FileExistsError:
            self._remove(fd, entry.parent, entry.name)
            return os.open(entry.name, _NEW_FILE, mode, dir_fd=self._enter(entry.parent))

    def _make(self, fd: int, entry: Entry) -> None:
        for attempt in (True, False):
            try:
                if entry.kind == entries.SYMLINK:
                    os.symlink(entry.target, entry.name, dir_fd=fd)
                else:
                    os.mkfifo(entry.name, self._real_mode(stat.S_IFIFO, entry.mode), dir_fd=fd)
                return
            except FileExistsError:
                if not attempt:
                    raise
                self._remove(fd, entry.parent, entry.name)
                fd = self._enter(entry.parent)

    def _link(self, entry: Entry) -> None:
        parent, name = entry.link
        if (parent, name) == (entry.parent, entry.name):
            return
        source = os.dup(self._enter(parent)) if self._is_there(parent) else None
        try:
            there = self._stat(source, name) if source is not None else None
            if source is None or there is None or stat.S_ISDIR(there.st_mode) or whiteout.is_whiteout(there):
                to = os.fsdecode(b"/".join((*parent, name)))
                why = f"it is a hard link to {to}, which is no file of the layer"
                raise SbError(f"the layer's file {entry.path()}", why, "don't trust this image")
            fd = self._enter(entry.parent)
            existing = self._stat(fd, entry.name)
            if existing is not None and (existing.st_dev, existing.st_ino) == (there.st_dev, there.st_ino):
                return
            if existing is not None:
                self._remove(fd, entry.parent, entry.name)
                fd = self._enter(entry.parent)
            os.link(name, entry.name, src_dir_fd=source, dst_dir_fd=fd, follow_symlinks=False)
        finally:
            if source is not None:
                os.close(source)
        if (attributes := self._indexed.get(parent, {}).get(name)) is not None:
            self._index(entry.parent, entry.name, attributes)

    def _is_there(self, path: tuple[bytes, ...]) -> bool:
        """Whether a directory is in the tree already: what a hard link is to doesn't come into being by it."""
        fd = self._root
        for name in path:
            try:
                below = os.open(name, _DIRECTORY, dir_fd=fd)
            except OSError:
                return False
            finally:
                if fd != self._root:
                    os.close(fd)
            fd = below
        if fd != self._root:
            os.close(fd)
        return True

    def _take_away(self, entry: Entry) -> None:
        """A whiteout: for lower layers only, so what this layer has by that name stays."""
        fd = self._enter(entry.parent)
        existing = self._stat(fd, entry.name)
        if existing is not None:
            if stat.S_ISDIR(existing.st_mode):
                self._mark_opaque(self._enter((*entry.parent, entry.name)))
            return
        if self._makes_whiteouts:
            try:
                os.mknod(entry.name, stat.S_IFCHR, 0, dir_fd=fd)
                return
            except OSError as error:  # before 5.8, and on NFS: nobody but root makes devices
                if error.errno not in (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL):
                    raise
                self._makes_whiteouts = False
        self._empty_file(fd, whiteout.mark_of(entry.name))

    def _is_gone(self, fd: int, name: bytes, existing: os.stat_result | None) -> bool:
        """Whether the layer takes away what lower layers have by this name."""
        if existing is not None and whiteout.is_whiteout(existing):
            return True
        return not self._makes_whiteouts and self._stat(fd, whiteout.mark_of(name)) is not None

    def _mark_opaque(self, fd: int) -> None:
        if self._xattrs:
            os.setxattr(fd, whiteout.OPAQUE_XATTR, whiteout.OPAQUE_VALUE)
        else:
            self._empty_file(fd, whiteout.OPAQUE_FILE)

    def _empty_file(self, fd: int, name: bytes) -> None:
        os.close(
            os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600 | self._others, dir_fd=fd)
        )

    def _remove(self, fd: int, parent: tuple[bytes, ...], name: bytes) -> None:
        """Make room for an entry whose name is taken: in an archive the last one of a name counts."""
        existing = self._stat(fd, name)
        if existing is None:
            return
        if not stat.S_ISDIR(existing.st_mode):
            os.unlink(name, dir_fd=fd)
            self._indexed.get(parent, {}).pop(name, None)
            return
        path = (*parent, name)
        trees.remove_tree(fd, os.fsdecode(name))
        for known in (self._indexed, self._modified):
            for each in [each for each in known if each[: len(path)] == path]:
                del known[each]
        self._indexed.get(parent, {}).pop(name, None)

    def _set_attributes(
        self, file: int | bytes, parent: tuple[bytes, ...], name: bytes, attributes: dict[bytes, bytes]
    ) -> None:
        """Set the attributes of a file or directory: really, or in the index of its directory."""
        if not self._xattrs:
            self._index(parent, name, attributes)
            return
        for key, value in attributes.items():
            os.setxattr(file, key, value)

    def _index(self, parent: tuple[bytes, ...], name: bytes, attributes: dict[bytes, bytes]) -> None:
        self._indexed.setdefault(parent, {})[name] = attributes

    def _real_mode(self, kind: int, mode: int) -> int:
        execute = 0o111 if kind == stat.S_IFDIR or mode & 0o111 else 0
        return ownership.real_mode(kind, mode) | (self._others & (0o444 | execute))

    @staticmethod
    def _stat(fd: int, name: bytes) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None


def _has_xattrs(root: int) -> bool:
    """Whether files here can have user.* attributes."""
    try:
        os.setxattr(root, ownership.XATTR, ownership.format_record(_IMPLIED))
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES):
            return False
        raise
    return True
