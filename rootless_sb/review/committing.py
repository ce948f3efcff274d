"""Carrying out actions whose new files are staged, and giving directories the modes that they are to have."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay.errors import failure
from fuse_overlay.layers import at_fd
from rootless_sb import faults
from rootless_sb.review import clearing, dressing, renaming, sites, stamps
from rootless_sb.review.actions import PUT, SWAP, TOUCH, Site
from rootless_sb.review.journal import STAGING

if TYPE_CHECKING:
    from rootless_sb.review.actions import Action, Attributes
    from rootless_sb.review.journal import Journal
    from rootless_sb.review.leftovers import Left


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
        touch(directory, action, action.after)
    elif action.kind == PUT:
        renaming.move(directory, action.staged, action.name)
    else:
        if action.kind == SWAP:
            renaming.exchange(directory, action)
        else:
            renaming.move(directory, action.name, action.staged)
        if not stamps.is_still(directory, action.staged, action.old, action.stamp):
            renaming.take_back(directory, action)
            raise failure(errno.ESTALE)
    faults.point("apply-action-done")


def finish(root: int, journal: Journal) -> list[Left]:
    """Clear away what was replaced, and give directories the modes that they are to have. Raises OSError.

    Returns what the host has changed of that since, and so is still there.
    """
    left, failures = clearing.replaced(root, journal)
    failures += set_finals(root, journal, done=True)
    if failures:
        raise failures[0]
    return left


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
    sites.each_in_any_case(root, journal.sites, touched, look)
    return found


def set_finals(root: int, journal: Journal, *, done: bool) -> list[OSError]:
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


def touch(directory: int, action: Action, attributes: Attributes | None) -> None:
    """Set the attributes of a file, which is the one that it was or isn't touched. A directory stays open to us.

    Raises OSError.
    """
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
