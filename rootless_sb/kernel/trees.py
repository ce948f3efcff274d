"""Removing a directory tree by descriptors: no symlink followed, any depth, any names."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# Deeper than this a subdirectory is first moved up to the top, so that the number of open descriptors stays bounded.
_DEPTH = 64
# What stands for a file that was removed while it is open: fs/nfs/unlink.c (nfs_sillyrename), libfuse's lib/fuse.c.
_RENAMED = (".nfs", ".fuse_hidden")


class Removed(NamedTuple):
    """What a removal took away: entries that aren't directories, and the bytes that they occupied."""

    files: int
    bytes: int


class _Level(NamedTuple):
    descriptor: int
    name: str
    subdirectories: list[str]


def remove_tree(parent: int, name: str) -> Removed:
    """Remove `name` and everything beneath it from the directory `parent`. Raises OSError.

    On a network's file system a file that somebody has open leaves a file behind until it is closed, and so the
    directories that it lies in: a second removal takes them away.
    """
    files = size = 0
    levels: list[_Level] = []
    free: Iterator[str] = iter(())
    descending: str | None = name
    try:
        while descending is not None or levels:
            if descending is not None:
                level = _Level(_open_directory(levels[-1].descriptor if levels else parent, descending), descending, [])
                levels.append(level)
                removed = _remove_files(level)
                files, size = files + removed.files, size + removed.bytes
                if len(levels) == 1:
                    free = _free_names(frozenset(level.subdirectories))
            level = levels[-1]
            descending = None
            if not level.subdirectories:
                levels.pop()
                os.close(level.descriptor)
                _remove_directory(levels[-1].descriptor if levels else parent, level.name)
            elif len(levels) > _DEPTH:
                top = levels[0]
                top.subdirectories.append(next(free))
                os.rename(
                    level.subdirectories.pop(),
                    top.subdirectories[-1],
                    src_dir_fd=level.descriptor,
                    dst_dir_fd=top.descriptor,
                )
            else:
                descending = level.subdirectories.pop()
    finally:
        for level in levels:
            os.close(level.descriptor)
    return Removed(files, size)


def _let_in(directory: int) -> None:
    """Let its owner remove what is in a directory that is to go, whatever its mode. Raises OSError."""
    if os.fstat(directory).st_mode & stat.S_IRWXU == stat.S_IRWXU:
        return
    try:
        os.fchmod(directory, stat.S_IRWXU)
    except PermissionError:  # somebody else's, who may let us in all the same
        return


def remove_others(directory: int, kept: str) -> None:
    """Remove everything in a directory but the one file `kept`. Raises OSError."""
    with os.scandir(directory) as entries:
        found = list(entries)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            remove_tree(directory, entry.name)
        elif entry.name != kept:
            os.unlink(entry.name, dir_fd=directory)


def remove_if_there(parent: int, name: str) -> Removed:
    """As `remove_tree`; nothing where there is nothing. Raises OSError."""
    try:
        return remove_tree(parent, name)
    except FileNotFoundError:
        return Removed(0, 0)


def _free_names(taken: frozenset[str]) -> Iterator[str]:
    """Names for what is moved up. Whoever made the tree may have used such names, and a removal that was killed has."""
    names = (f".sb-removing-{number}" for number in itertools.count())
    return (name for name in names if name not in taken)


def _remove_directory(parent: int, name: str) -> None:
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY or not _holds_what_is_open(parent, name):
            raise


def _holds_what_is_open(parent: int, name: str) -> bool:
    """Whether all that a directory holds is what a network's or FUSE's file system has renamed because it is open."""
    directory = _open_directory(parent, name)
    try:
        with os.scandir(directory) as entries:
            return all(
                _holds_what_is_open(directory, each.name)
                if each.is_dir(follow_symlinks=False)
                else each.name.startswith(_RENAMED)
                for each in entries
            )
    finally:
        os.close(directory)


def _remove_files(level: _Level) -> Removed:
    """Unlink all that isn't a directory, and note the directories in `level.subdirectories`."""
    files = size = 0
    with os.scandir(level.descriptor) as entries:
        found = list(entries)
    if found:
        _let_in(level.descriptor)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            level.subdirectories.append(entry.name)
            continue
        size += entry.stat(follow_symlinks=False).st_blocks * 512
        os.unlink(entry.name, dir_fd=level.descriptor)
        files += 1
    return Removed(files, size)


def _open_directory(parent: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=parent)
    except PermissionError:  # a mode without r or x, as a directory that an older layer format left
        os.chmod(name, 0o700, dir_fd=parent)
        return os.open(name, flags, dir_fd=parent)
