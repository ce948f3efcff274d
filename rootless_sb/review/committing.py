"""Carrying out actions whose new files are staged; undoing them; and clearing away what they have replaced."""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import TYPE_CHECKING

from fuse_overlay.errors import failure
from fuse_overlay.kernel import paths
from fuse_overlay.layers import at_fd
from rootless_sb import faults
from rootless_sb.review import dressing, sites, stamps
from rootless_sb.review.actions import PUT, SWAP, TAKE, TOUCH, Site
from rootless_sb.review.journal import STAGING
from rootless_sb.review.merged import is_gone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rootless_sb.review.actions import Action, Attributes
    from rootless_sb.review.journal import Journal

# renameat2(2): the file system, or the kernel, doesn't know the flag.
_UNKNOWN_FLAG = (errno.EINVAL, errno.ENOSYS)
# Where a file waits while it is exchanged in steps.
_ASIDE = b"~"
# Files are removed by so many threads at most, for each of which there are so many files at least.
_THREADS, _SHARE = 4, 250


def commit(root: int, journal: Journal) -> None:
    """Carry out all actions, those that change attributes last. Raises OSError: ESTALE where something else is there
    than was there before.
    """
    ordered = sorted(journal.actions, key=lambda action: action.kind == TOUCH)
    sites.each(root, journal.sites, ordered, _do)


def _do(directory: int, action: Action) -> None:
    if action.kind in (PUT, SWAP) and sites.key_of(directory, action.staged) != action.new:
        raise failure(errno.ESTALE)  # somebody who may write to the directory as well
    if action.kind == TOUCH:
        _touch(directory, action, action.after)
    elif action.kind == PUT:
        _move(directory, action.staged, action.name)
    else:
        if action.kind == SWAP:
            _exchange(directory, action)
        else:
            _move(directory, action.name, action.staged)
        if not _is_old(directory, action.staged, action):
            _take_back(directory, action)
            raise failure(errno.ESTALE)
    faults.point("apply-action-done")


def undo(root: int, journal: Journal) -> None:
    """Bring the host back to where it was before. Raises OSError, when all that can be undone is.

    What somebody has put in a changed file's place meanwhile stays there.
    """
    ordered = sorted(journal.actions, key=lambda action: action.kind != TOUCH)
    failures = _whatever_happens(root, journal, ordered, _drop if journal.phase == STAGING else _undo)
    failures += _set_finals(root, journal, done=False)
    if failures:
        raise failures[0]


def _whatever_happens(
    root: int, journal: Journal, actions: Iterable[Action], do: Callable[[int, Action], None]
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
            error.filename = os.path.join(journal.sites[action.site].path, action.name)
            failures.append(error)

    by_site: dict[int, list[Action]] = {}
    for action in actions:
        by_site.setdefault(action.site, []).append(action)
    for number, here in sorted(by_site.items()):
        try:
            sites.widen(root, [journal.sites[number]])
            sites.each(root, journal.sites, here, attempt)
        except FileNotFoundError:
            continue
        except OSError as error:
            failures.append(error)
    return failures


def _set_finals(root: int, journal: Journal, *, done: bool) -> list[OSError]:
    """Give directories the modes that they are to have in the end; the errors are returned."""
    failures: list[OSError] = []
    for final in _finals(journal, done=done):
        try:
            sites.set_modes(root, [final])
        except FileNotFoundError:
            continue
        except OSError as error:
            failures.append(error)
    return failures


def _undo(directory: int, action: Action) -> None:
    if action.kind == TOUCH:
        if sites.key_of(directory, action.name) == action.old:
            _touch(directory, action, action.before)
        return
    if action.kind == PUT:
        if sites.key_of(directory, action.name) == action.new and sites.key_of(directory, action.staged) is None:
            _move(directory, action.name, action.staged)
    else:
        _take_back(directory, action)
    faults.point("apply-action-undone")
    if action.new is not None and sites.key_of(directory, action.staged) == action.new:
        sites.discard(directory, action.staged)


def _is_old(directory: int, name: bytes, action: Action) -> bool:
    """Whether what has a name is what was to be replaced, and nobody has written to it, or into it, since.

    Raises OSError for a directory that can't be read.
    """
    try:
        st = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if (st.st_dev, st.st_ino) != action.old:
            return False
        return action.stamp is None or action.stamp == stamps.look(directory, name, st)
    except OSError as error:
        if not is_gone(error):
            raise
        return False  # somebody is at work in it


def _take_back(directory: int, action: Action) -> None:
    """Put what was replaced or taken away in its place again."""
    aside = action.staged + _ASIDE
    if sites.key_of(directory, aside) is not None:  # killed between the steps of an exchange
        if sites.key_of(directory, action.name) == action.new:
            _move(directory, action.name, action.staged)
        _move(directory, aside, action.name)
        return
    if sites.key_of(directory, action.staged) in (action.new, None):
        return
    there = sites.key_of(directory, action.name)
    if there is None:
        _move(directory, action.staged, action.name)
    elif action.kind == SWAP and there == action.new:
        _exchange(directory, action)


def _drop(directory: int, action: Action) -> None:
    if action.kind != TOUCH:
        sites.discard(directory, action.staged)


def finish(root: int, journal: Journal) -> None:
    """Clear away what was replaced, and give directories the modes that they are to have. Raises OSError."""
    replaced = [each for each in journal.actions if each.kind in (SWAP, TAKE)]
    failures = [*_clear_all(root, journal, replaced), *_set_finals(root, journal, done=True)]
    if failures:
        raise failures[0]


def _clear_all(root: int, journal: Journal, replaced: Sequence[Action]) -> list[OSError]:
    """Clear away what was replaced; the errors are returned.

    Many files by several threads: unlink(2) of a file's last name waits for the disk where freed blocks are discarded
    at once (mount option discard, ext4(5)).
    """
    count = max(1, min(_THREADS, len(replaced) // _SHARE))
    failures: list[BaseException] = []

    def clear(number: int) -> None:
        first, end = (len(replaced) * each // count for each in (number, number + 1))
        try:
            failures.extend(_whatever_happens(root, journal, replaced[first:end], _clear))
        except BaseException as error:  # a thread's own would only be printed
            failures.append(error)

    own, threads = [0], []
    for number in range(1, count):
        thread = threading.Thread(target=clear, args=(number,))
        try:
            thread.start()
            threads.append(thread)
        except RuntimeError:  # the user has as many processes as he may: setrlimit(2), RLIMIT_NPROC
            own.append(number)
    for number in own:
        clear(number)
    for thread in threads:
        thread.join()
    others = [each for each in failures if not isinstance(each, OSError)]
    if others:
        raise others[0]
    return [each for each in failures if isinstance(each, OSError)]


def _clear(directory: int, action: Action) -> None:
    if sites.key_of(directory, action.staged) == action.old:
        sites.discard(directory, action.staged)
    faults.point("apply-cleared")


def restored(root: int, journal: Journal) -> list[tuple[bytes, os.stat_result]]:
    """What is at its place again after an undo, by its path, but for what the host has changed, before the apply or
    meanwhile. Raises OSError.
    """
    found: list[tuple[bytes, os.stat_result]] = []

    def look(directory: int, action: Action) -> None:
        st = os.stat(action.name, dir_fd=directory, follow_symlinks=False)
        if _is_old(directory, action.name, action):
            found.append((os.path.join(journal.sites[action.site].path, action.name), st))

    if journal.phase != STAGING:
        seen = [each for each in journal.actions if each.old is not None and not each.clashes]
        _whatever_happens(root, journal, seen, look)
    return found


def finished(root: int, journal: Journal) -> list[tuple[bytes, os.stat_result]]:
    """The directories whose attributes were changed in place, by their paths, once `finish` has given them their modes.
    Raises OSError.
    """
    found: list[tuple[bytes, os.stat_result]] = []

    def look(directory: int, action: Action) -> None:
        st = os.stat(action.name, dir_fd=directory, follow_symlinks=False)
        if (st.st_dev, st.st_ino) == action.old:
            found.append((os.path.join(journal.sites[action.site].path, action.name), st))

    touched = [each for each in journal.actions if each.after is not None and each.after.is_directory]
    _whatever_happens(root, journal, touched, look)
    return found


def _finals(journal: Journal, *, done: bool) -> list[Site]:
    """The directories whose modes aren't what they are to be yet, with these modes; those in others first."""
    touched = {
        os.path.join(journal.sites[each.site].path, each.name): (each.after if done else each.before, each.old)
        for each in journal.actions
        if each.kind == TOUCH and (done or journal.phase != STAGING)
    }
    found = [site for site in journal.sites if site.widened and site.path not in touched]
    for path, (attributes, key) in touched.items():
        if attributes is not None and key is not None and attributes.is_directory:
            found.append(Site(path, key, stat.S_IMODE(attributes.mode), widened=True))
    return sorted(found, key=lambda site: site.path.count(b"/"), reverse=True)


def _touch(directory: int, action: Action, attributes: Attributes | None) -> None:
    """Set the attributes of a file, which is the one that it was or isn't touched. A directory stays open to us."""
    if attributes is None:
        return
    fd = os.open(action.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        st = os.fstat(fd)
        if (st.st_dev, st.st_ino) != action.old:
            raise failure(errno.ESTALE)
        dressing.set_attributes(at_fd(fd), attributes, sites.OWN_ALL if attributes.is_directory else 0)
    finally:
        os.close(fd)


def _move(directory: int, source: bytes, target: bytes) -> None:
    """Rename to a name that is free. Raises OSError, EEXIST if it isn't."""
    try:
        paths.rename(directory, source, directory, target, paths.RENAME_NOREPLACE)
    except OSError as error:
        if error.errno not in _UNKNOWN_FLAG:
            raise
        if sites.key_of(directory, target) is not None:
            raise failure(errno.EEXIST) from None
        os.rename(source, target, src_dir_fd=directory, dst_dir_fd=directory)


def _exchange(directory: int, action: Action) -> None:
    """Exchange what is staged with what is at the name."""
    try:
        paths.rename(directory, action.staged, directory, action.name, paths.RENAME_EXCHANGE)
    except OSError as error:
        if error.errno not in _UNKNOWN_FLAG:
            raise
        aside = action.staged + _ASIDE
        _move(directory, action.name, aside)
        faults.point("apply-aside")
        _move(directory, action.staged, action.name)
        _move(directory, aside, action.staged)
