"""Names that change places within a directory, also where the kernel can't exchange two of them at once."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from fuse_overlay.errors import failure
from fuse_overlay.kernel import paths
from rootless_sb import faults
from rootless_sb.review import sites
from rootless_sb.review.actions import SWAP

if TYPE_CHECKING:
    from rootless_sb.review.actions import Action

# renameat2(2): the file system, or the kernel, doesn't know the flag.
_UNKNOWN_FLAG = (errno.EINVAL, errno.ENOSYS)
# Where a file waits while it is exchanged in steps.
_ASIDE = b"~"


def aside(action: Action) -> bytes:
    """The name at which what is replaced waits while it is exchanged in steps."""
    return action.staged + _ASIDE


def move(directory: int, source: bytes, target: bytes) -> None:
    """Rename to a name that is free. Raises OSError, EEXIST if it isn't."""
    try:
        paths.rename(directory, source, directory, target, paths.RENAME_NOREPLACE)
    except OSError as error:
        if error.errno not in _UNKNOWN_FLAG:
            raise
        if sites.key_of(directory, target) is not None:
            raise failure(errno.EEXIST) from None
        os.rename(source, target, src_dir_fd=directory, dst_dir_fd=directory)


def exchange(directory: int, action: Action) -> None:
    """Exchange what is staged with what is at the name. Raises OSError."""
    try:
        paths.rename(directory, action.staged, directory, action.name, paths.RENAME_EXCHANGE)
    except OSError as error:
        if error.errno not in _UNKNOWN_FLAG:
            raise
        move(directory, action.name, aside(action))
        faults.point("apply-aside")
        move(directory, action.staged, action.name)
        move(directory, aside(action), action.staged)


def take_back(directory: int, action: Action) -> None:
    """Put what was replaced or taken away in its place again, unless something else is there. Raises OSError."""
    waiting = aside(action)
    if sites.key_of(directory, waiting) is not None:  # killed between the steps of an exchange
        if sites.key_of(directory, action.name) == action.new:
            move(directory, action.name, action.staged)
        if sites.key_of(directory, action.name) is None:
            move(directory, waiting, action.name)
        return
    if sites.key_of(directory, action.staged) in (action.new, None):
        return
    there = sites.key_of(directory, action.name)
    if there is None:
        move(directory, action.staged, action.name)
    elif action.kind == SWAP and there == action.new:
        exchange(directory, action)
