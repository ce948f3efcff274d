"""Copying single files and directories out of a sandbox, and into one that doesn't run."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay import copydata
from fuse_overlay.descent import open_directory
from fuse_overlay.layers import at_fd
from rootless_sb.errors import Doing, SbError
from rootless_sb.review import making, merged, sites
from rootless_sb.review.changes import directories_above
from rootless_sb.ui.changes import shown
from rootless_sb.ui.messages import warn

if TYPE_CHECKING:
    from fuse_overlay.entries import Entry
    from fuse_overlay.inodes import Node
    from fuse_overlay.overlay import Overlay
    from fuse_overlay.tree import Tree
    from rootless_sb.review.actions import Key

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)


def copy_out(tree: Tree, source: bytes, target: bytes) -> None:
    """Copy what is at a path of the sandbox to the host, into `target` if that is a directory.

    What is made is the caller's own. Below `target` no symbolic link is followed: a sandbox that put one there with an
    earlier copy gains nothing. Raises SbError.
    """
    with Doing(f"cannot copy {shown(source)}"):
        top = merged.find(tree, source, follow=False)
    if os.path.isdir(target):
        target = os.path.join(target, os.path.basename(source.rstrip(b"/")))
    above, name = os.path.split(os.path.abspath(target))
    with Doing(f"cannot copy to {shown(target)}"):
        if top.node.kind == stat.S_IFDIR and _lies_in(above, tree, top.node):
            raise SbError(f"cannot copy {shown(source)}", f"{shown(target)} lies in it")
        CopyOut(tree, os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), name).copy(top)


def _lies_in(path: bytes, tree: Tree, node: Node) -> bool:
    """Whether a directory of the host is one of those that a directory of the sandbox is made of, or lies in one."""
    parts = {tree.directories.get(node, layer)[1:] for layer in node.dirs}
    real = os.path.realpath(path)
    return any(_key(os.stat(each)) in parts for each in (real, *directories_above(real), b"/"))


def _key(st: os.stat_result) -> Key:
    return st.st_dev, st.st_ino


class CopyOut:
    """Copies into the open directory `above`, under a name. Raises OSError."""

    def __init__(self, tree: Tree, above: int, name: bytes) -> None:
        self._tree = tree
        self._above = above
        self._name = name

    def copy(self, top: Entry) -> None:
        """Copy a file, or a directory with all that is in it."""
        entries = [(b"", top)]
        self._one(b"", top)
        if top.node.kind == stat.S_IFDIR:
            for path, entry in merged.walk(self._tree, top):
                self._one(path, entry)
                if entry.node.kind == stat.S_IFDIR:
                    entries.append((path, entry))
        for path, entry in reversed(entries):  # what is in directories comes first: it changes their times
            if entry.node.kind == stat.S_IFDIR:
                self._finish(path, entry)

    def _one(self, path: bytes, entry: Entry) -> None:
        node = entry.node
        if node.kind not in _KINDS:
            warn(f"left out: {shown(path or self._name)}: neither a file nor a directory nor a symlink")
            return
        try:
            source = merged.open_file(self._tree, entry) if node.kind == stat.S_IFREG else -1
            link = merged.link_target(self._tree, node) if node.kind == stat.S_IFLNK else b""
        except OSError as error:
            if path and merged.is_gone(error):
                return
            raise
        try:
            self._make(path, entry, source, link)
        finally:
            if source >= 0:
                os.close(source)

    def _make(self, path: bytes, entry: Entry, source: int, link: bytes) -> None:
        """Make a file with the data of `source`, a link that reads `link`, or a directory."""
        kind = entry.node.kind
        fd, name = self._place(path)
        try:
            there = sites.key_of(fd, name) is not None
            if there and (kind != stat.S_IFDIR or not _is_directory(fd, name)):
                os.unlink(name, dir_fd=fd)
                there = False
            if kind == stat.S_IFDIR:
                if not there:
                    os.mkdir(name, 0o700, dir_fd=fd)
            elif kind == stat.S_IFLNK:
                os.symlink(link, name, dir_fd=fd)
            else:
                _copy_data(entry, source, fd, name)
        finally:
            os.close(fd)

    def _finish(self, path: bytes, entry: Entry) -> None:
        """Give a directory its mode and times."""
        fd, name = self._place(path)
        try:
            made = open_directory(fd, [name])
            os.chmod(at_fd(made), entry.owner.mode & making.MODE)
            os.utime(at_fd(made), ns=(entry.st.st_atime_ns, entry.st.st_mtime_ns))
            os.close(made)
        finally:
            os.close(fd)

    def _place(self, path: bytes) -> tuple[int, bytes]:
        """The directory, opened, and the name of what is at a path below the top."""
        *above, name = [self._name, *path.split(b"/")] if path else [self._name]
        return (open_directory(self._above, above) if above else os.dup(self._above)), name


def _copy_data(entry: Entry, source: int, fd: int, name: bytes) -> None:
    made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd)
    try:
        copydata.copy(source, made, os.fstat(source).st_size)
        os.fchmod(made, entry.owner.mode & making.MODE)
        os.utime(made, ns=(entry.st.st_atime_ns, entry.st.st_mtime_ns))
    finally:
        os.close(made)


def _is_directory(fd: int, name: bytes) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)


class CopyIn:
    """Copies into a sandbox."""

    def __init__(self, overlay: Overlay, maker: making.Maker, own: int) -> None:
        """`own`: the sandbox's directory, which isn't copied into itself."""
        self._overlay = overlay
        self._maker = maker
        self._own = _key(os.fstat(own))

    def copy(self, source: bytes, target: bytes) -> None:
        """Copy a file or directory of the host to a path of the sandbox; into it if it is one. Raises SbError."""
        with Doing(f"cannot copy to {shown(target)}"):
            above, name = self._place(source, target)
        self._copy(source, above, name)

    def _place(self, source: bytes, target: bytes) -> tuple[Node, bytes]:
        """The directory and the name that a copy gets. Raises OSError."""
        tree = self._overlay.tree
        try:
            found = merged.find(tree, target, follow=True)
        except FileNotFoundError:
            above, _, name = target.rstrip(b"/").rpartition(b"/")
            return merged.find(tree, above, follow=True).node, name
        if found.node.kind == stat.S_IFDIR:
            return found.node, os.path.basename(os.path.abspath(source))
        return found.node.parent or tree.root, found.node.name

    def _copy(self, source: bytes, above: Node, name: bytes) -> None:
        with Doing(f"cannot copy {shown(source)}"):
            st = os.lstat(source)
            if _key(st) == self._own:
                return
            kind = stat.S_IFMT(st.st_mode)
            if kind == stat.S_IFDIR:
                made = self._maker.directory(above, name, st.st_mode)
                for below in sorted(os.listdir(source)):
                    self._copy(os.path.join(source, below), made, below)
            elif kind == stat.S_IFREG:
                made = self._copy_data(source, st.st_mode, above, name)
            elif kind == stat.S_IFLNK:
                self._maker.symlink(above, name, os.readlink(source))
                return
            else:
                warn(f"left out: {shown(source)}: neither a file nor a directory nor a symlink")
                return
            self._maker.finish(made, st.st_mode, st.st_atime_ns, st.st_mtime_ns)

    def _copy_data(self, source: bytes, mode: int, above: Node, name: bytes) -> Node:
        opened = os.open(source, _READ)
        try:
            size = os.fstat(opened).st_size
            return self._maker.file(above, name, mode, lambda target: copydata.copy(opened, target, size))
        finally:
            os.close(opened)
