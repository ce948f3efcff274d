"""The tree as the sandbox sees it, without a mount: found by path, walked, read."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay.entries import Missing
from fuse_overlay.errors import failure
from fuse_overlay.layers import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuse_overlay.entries import Entry
    from fuse_overlay.inodes import Node
    from fuse_overlay.tree import Tree

_LINKS_MAX = 40  # path_resolution(7)
# What is looked for is gone, or something else is in its place: a symbolic link (ELOOP), no link any more (EINVAL).
_GONE = frozenset({errno.ENOENT, errno.ESTALE, errno.ENOTDIR, errno.ELOOP, errno.EINVAL})


def is_gone(error: OSError) -> bool:
    """Whether something can't be looked at because it isn't there any more: the sandbox runs, or the host goes on."""
    return error.errno in _GONE


def find(tree: Tree, path: bytes, *, follow: bool) -> Entry:
    """What is at an absolute path, symbolic links on the way followed within the tree; the last name's if `follow`.

    The node is held by a look-up of ours. Raises OSError.
    """
    waiting = [name for name in reversed(path.split(b"/")) if name]
    held = [tree.root]
    links = 0
    entry = tree.attributes(tree.root)
    while waiting:
        name = waiting.pop()
        if name == b".":
            continue
        if name == b"..":
            held = held[:-1] or [tree.root]
            entry = tree.attributes(held[-1])
            continue
        if held[-1].kind != stat.S_IFDIR:
            raise failure(errno.ENOTDIR)
        found = tree.lookup(held[-1], name)
        if isinstance(found, Missing):
            raise failure(errno.ENOENT)
        found.node.lookups += 1
        if found.node.kind == stat.S_IFLNK and (waiting or follow):
            links += 1
            if links > _LINKS_MAX:
                raise failure(errno.ELOOP)
            target = link_target(tree, found.node)
            waiting += [part for part in reversed(target.split(b"/")) if part]
            if target.startswith(b"/"):
                held = [tree.root]
                entry = tree.attributes(tree.root)
            continue
        held.append(found.node)
        entry = found
    return entry


def real_path(tree: Tree, path: bytes) -> bytes:
    """Where an absolute path leads through symbolic links within the tree; what isn't there of it stays as it is."""
    try:
        return b"/" + find(tree, path, follow=True).node.path
    except OSError:
        above, _, name = path.rpartition(b"/")
        return os.path.join(real_path(tree, above or b"/"), name)


def link_target(tree: Tree, node: Node) -> bytes:
    """Where a symbolic link points. Raises OSError."""
    directory, name = tree.place(node)
    return os.readlink(name, dir_fd=directory)


def open_file(tree: Tree, entry: Entry) -> int:
    """Open a regular file for reading. Raises OSError."""
    directory, name = tree.place(entry.node)
    return open_regular(name, os.O_RDONLY, directory, entry.node.source, own=entry.node.own)


def walk(tree: Tree, top: Entry) -> Iterator[tuple[bytes, Entry]]:
    """All below a directory, by paths relative to it, each directory before what is in it; nothing of what goes
    meanwhile. Raises OSError.
    """
    waiting = [(b"", top.node)]
    while waiting:
        path, node = waiting.pop()
        below = []
        for name, entry in _entries(tree, node):
            here = path + b"/" + name if path else name
            entry.node.lookups += 1
            yield here, entry
            if entry.node.kind == stat.S_IFDIR:
                below.append((here, entry.node))
            else:
                tree.table.forget(entry.node, 1)
        waiting += reversed(below)
        tree.table.settle(node)


def _entries(tree: Tree, node: Node) -> Iterator[tuple[bytes, Entry]]:
    """What is in a directory, by name."""
    try:
        for name in sorted(tree.scan(node)):
            entry = tree.enter(node, name)
            if not isinstance(entry, Missing):
                yield name, entry
    except OSError as error:
        if not is_gone(error):
            raise
