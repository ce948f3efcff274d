"""Clearing away what lies beside a target: only what is known, since somebody may be at work in it still.

A process whose working directory is in a directory that was renamed goes on writing to it. So a directory is looked
through once more, and then each file is removed that was seen then, if it still is what it was; a directory if it is
empty. Between the look at one file and its unlink(2) there are microseconds left, and who has a file open can write to
it as long as he likes: there is no call that closes that.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import TYPE_CHECKING

from rootless_sb import faults
from rootless_sb.review import sites, stamps
from rootless_sb.review.actions import SWAP, TAKE
from rootless_sb.review.leftovers import BEFORE, Left
from rootless_sb.review.merged import is_gone

if TYPE_CHECKING:
    from rootless_sb.review.actions import Action, Key, Stamp
    from rootless_sb.review.journal import Journal
    from rootless_sb.review.stamps import Survey

_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)  # rmdir(2): one or the other
# Files are removed by so many threads at most, for each of which there are so many files at least.
_THREADS, _SHARE = 4, 250


def remove(directory: int, name: bytes, key: Key | None, stamp: Stamp | None) -> bool:
    """Remove what has a name, with all that is in it, if it still is what was looked at. Raises OSError.

    Returns whether nothing has that name any more.
    """
    try:
        st = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if (st.st_dev, st.st_ino) != key:
            return False
        if not stat.S_ISDIR(st.st_mode):
            if stamps.look(directory, name, st) != stamp:
                return False
            os.unlink(name, dir_fd=directory)
            return True
        survey = _survey(directory, name)
        if survey is None or survey.tally.stamp != stamp:
            return False
        faults.point("apply-clearing")
        return _remove_tree(directory, name, survey)
    except FileNotFoundError:
        return sites.key_of(directory, name) is None


def _survey(directory: int, name: bytes) -> Survey | None:
    """What is in a directory; None if it can't be read, or somebody is at work in it. Raises OSError."""
    try:
        return stamps.survey(directory, name)
    except OSError as error:
        if not (isinstance(error, PermissionError) or is_gone(error)):
            raise
        return None


def _remove_tree(directory: int, name: bytes, survey: Survey) -> bool:
    """Remove what a survey knows of a directory, and itself if that was all; whether it was."""
    top = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        for path in reversed(survey.directories):
            try:
                listed = stamps.open_listed(top, path)
            except OSError as error:
                if not is_gone(error):
                    raise
                continue
            try:
                _empty(listed, path, survey)
            finally:
                os.close(listed)
    finally:
        os.close(top)
    return _remove_empty(directory, name)


def _empty(listed: int, path: bytes, survey: Survey) -> None:
    """Remove what a survey knows of the files, and of the directories that are empty, in one at a path."""
    st = os.fstat(listed)
    if (st.st_dev, st.st_ino) != survey.directories[path]:
        return
    widened = st.st_mode & sites.OWN_ALL != sites.OWN_ALL
    if widened:
        os.fchmod(listed, stat.S_IMODE(st.st_mode) | sites.OWN_ALL)
    all_gone = True
    with os.scandir(listed) as entries:
        names = [os.fsencode(entry.name) for entry in entries]
    for name in names:
        try:
            all_gone &= _remove_one(listed, name, os.path.join(path, name), survey)
        except FileNotFoundError:
            continue
    if widened and not all_gone:
        os.fchmod(listed, stat.S_IMODE(st.st_mode))


def _remove_one(listed: int, name: bytes, path: bytes, survey: Survey) -> bool:
    """Remove what a survey knows at a path, a directory if it is empty; whether that was done."""
    st = os.stat(name, dir_fd=listed, follow_symlinks=False)
    if stat.S_ISDIR(st.st_mode):
        return survey.directories.get(path) == (st.st_dev, st.st_ino) and _remove_empty(listed, name)
    if stamps.fact(path, st) not in survey.tally.facts:
        return False
    os.unlink(name, dir_fd=listed)
    return True


def _remove_empty(directory: int, name: bytes) -> bool:
    """Remove a directory if it is empty; whether it was."""
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError as error:
        if error.errno not in _NOT_EMPTY:
            raise
        return False
    return True


def replaced(root: int, journal: Journal) -> tuple[list[Left], list[OSError]]:
    """Clear away what was replaced. Returns what is left of that, and the errors.

    Many files by several threads: unlink(2) of a file's last name waits for the disk where freed blocks are discarded
    at once (mount option discard, ext4(5)).
    """
    actions = [each for each in journal.actions if each.kind in (SWAP, TAKE)]
    count = max(1, min(_THREADS, len(actions) // _SHARE))
    left: list[Left] = []
    failures: list[BaseException] = []

    def clear_one(directory: int, action: Action) -> None:
        if not remove(directory, action.staged, action.old, action.stamp):
            above = journal.sites[action.site].path
            left.append(Left(BEFORE, os.path.join(above, action.name), os.path.join(above, action.staged)))
        faults.point("apply-cleared")

    def clear(number: int) -> None:
        first, end = (len(actions) * each // count for each in (number, number + 1))
        try:
            failures.extend(sites.each_in_any_case(root, journal.sites, actions[first:end], clear_one))
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
    return left, [each for each in failures if isinstance(each, OSError)]
