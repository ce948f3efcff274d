"""Directories of the host, reached from the sandbox's root by descriptors and through no symbolic link."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay.descent import open_directory
from fuse_overlay.errors import failure
from fuse_overlay.layers import at_fd
from rootless_sb.kernel import trees
from rootless_sb.review.actions import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rootless_sb.review.actions import Action, Key

OWN_ALL = 0o700  # what a directory's owner needs to work in it


def open_path(root: int, path: bytes) -> int:
    """Open (O_PATH) the directory at an absolute path below `root`. Raises OSError."""
    return open_directory(root, [name for name in path.split(b"/") if name])


def open_site(root: int, site: Site) -> int:
    """Open a directory. Raises OSError; ESTALE when it isn't the one that it was."""
    fd = open_path(root, site.path)
    st = os.fstat(fd)
    if (st.st_dev, st.st_ino) != site.key:
        os.close(fd)
        raise failure(errno.ESTALE)
    return fd


def look(root: int, paths: Iterable[bytes], uid: int) -> tuple[Site, ...]:
    """The directories at these paths. Raises OSError.

    Those are to be widened that belong to `uid`, who has no right to write to them.
    """
    found = []
    for path in paths:
        fd = open_path(root, path)
        try:
            st = os.fstat(fd)
        finally:
            os.close(fd)
        mode = stat.S_IMODE(st.st_mode)
        widened = uid == st.st_uid and mode & OWN_ALL != OWN_ALL
        found.append(Site(path, (st.st_dev, st.st_ino), mode, widened))
    return tuple(found)


def each(root: int, sites: Sequence[Site], actions: Sequence[Action], do: Callable[[int, Action], None]) -> None:
    """Do something for each action, given its directory. Raises OSError with the path at which it happened."""
    current, fd = -1, -1
    try:
        for action in actions:
            try:
                if action.site != current:
                    opened = open_site(root, sites[action.site])
                    if fd >= 0:
                        os.close(fd)
                    current, fd = action.site, opened
                do(fd, action)
            except OSError as error:
                error.filename = os.path.join(sites[action.site].path, action.name)
                raise
    finally:
        if fd >= 0:
            os.close(fd)


def each_in_any_case(
    root: int, sites: Sequence[Site], actions: Iterable[Action], do: Callable[[int, Action], None]
) -> list[OSError]:
    """Do something for each action, directory by directory, whatever happens at the others; the errors are returned.

    That a file or directory is gone is none: there is nothing to do then.
    """
    failures: list[OSError] = []

    def attempt(directory: int, action: Action) -> None:
        try:
            do(directory, action)
        except FileNotFoundError:
            return
        except OSError as error:
            error.filename = os.path.join(sites[action.site].path, action.name)
            failures.append(error)

    by_site: dict[int, list[Action]] = {}
    for action in actions:
        by_site.setdefault(action.site, []).append(action)
    for number, here in sorted(by_site.items()):
        try:
            widen(root, [sites[number]])
            each(root, sites, here, attempt)
        except FileNotFoundError:
            continue
        except OSError as error:
            failures.append(error)
    return failures


def set_modes(root: int, sites: Iterable[Site], more: int = 0) -> None:
    """Give directories their modes, and these bits besides; those in others first. Raises OSError."""
    for site in sorted(sites, key=lambda site: site.path.count(b"/"), reverse=not more):
        fd = open_site(root, site)
        try:
            os.chmod(at_fd(fd), site.mode | more)
        finally:
            os.close(fd)


def widen(root: int, sites: Iterable[Site]) -> None:
    """Let their owner write to the directories where he can't. Raises OSError."""
    set_modes(root, [site for site in sites if site.widened], OWN_ALL)


def key_of(directory: int, name: bytes) -> Key | None:
    """Which file has a name in a directory; None if none has. Raises OSError."""
    try:
        st = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return st.st_dev, st.st_ino


def discard(directory: int, name: bytes) -> None:
    """Remove whatever has a name in a directory, with all that is in it. Raises OSError."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
        trees.remove_if_there(directory, os.fsdecode(name))
