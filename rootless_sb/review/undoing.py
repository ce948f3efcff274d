"""Undoing actions: what was there before is put in its place again, and what was made is cleared away.

Between the death of an apply and this, the host may have gone on with what was put into place. What it has changed, or
made anew there, stays, and then what was there before stays beside it. What an older sb has put there, or a directory
that can't be read, nobody can tell to be unchanged: it gives way, but is kept.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless_sb import faults
from rootless_sb.review import clearing, committing, renaming, sites, stamps
from rootless_sb.review.actions import PUT, TOUCH
from rootless_sb.review.journal import STAGING
from rootless_sb.review.leftovers import PUT_ASIDE, STAYS, Left

if TYPE_CHECKING:
    from rootless_sb.review.actions import Action
    from rootless_sb.review.journal import Journal

# Where something waits that was put into place, and of which nobody knows whether it has changed since.
_KEPT = b"+"


def undo(root: int, journal: Journal) -> list[Left]:
    """Bring the host back to where it was before. Raises OSError, when all that can be undone is.

    Returns what isn't where it was before, since the host has changed something meanwhile.
    """
    left: list[Left] = []

    def undo_one(directory: int, action: Action) -> None:
        if action.kind == TOUCH:
            if sites.key_of(directory, action.name) == action.old:
                committing.touch(directory, action, action.before)
            return
        left.extend(_undo(directory, action, journal.sites[action.site].path))

    ordered = sorted(journal.actions, key=lambda action: action.kind != TOUCH)
    failures = sites.each_in_any_case(root, journal.sites, ordered, _drop if journal.phase == STAGING else undo_one)
    failures += committing.set_finals(root, journal, done=False)
    if failures:
        raise failures[0]
    return left


def _drop(directory: int, action: Action) -> None:
    if action.kind != TOUCH:
        sites.discard(directory, action.staged)


def _undo(directory: int, action: Action, above: bytes) -> list[Left]:
    """Undo one action, whose directory is `above`; what is left."""
    is_put = action.kind == PUT and sites.key_of(directory, action.staged) is None
    stays = _is_there(directory, action, action.name) and _has_changed(directory, action)
    if not stays:
        if action.made is None and _is_there(directory, action, action.name):
            renaming.move(directory, action.name, action.staged + _KEPT)
        if action.kind != PUT:
            renaming.take_back(directory, action)
        elif is_put and _is_there(directory, action, action.name):
            renaming.move(directory, action.name, action.staged)
    faults.point("apply-action-undone")
    if _is_there(directory, action, action.staged):
        if action.made is None:  # it was never put into place
            sites.discard(directory, action.staged)
        else:
            clearing.remove(directory, action.staged, action.new, action.made)
    return _look(directory, action, above, is_put=is_put)


def _is_there(directory: int, action: Action, name: bytes) -> bool:
    """Whether a name has what the action has made."""
    return action.new is not None and sites.key_of(directory, name) == action.new


def _has_changed(directory: int, action: Action) -> bool:
    """Whether the host has changed what was put into place, as far as can be told."""
    try:
        return not stamps.is_still(directory, action.name, action.new, action.made)
    except PermissionError:  # it could be read when it was made
        return True


def _look(directory: int, action: Action, above: bytes, *, is_put: bool) -> list[Left]:
    """What is left of an action that was undone."""
    found: list[Left] = []
    path = os.path.join(above, action.name)
    for name in (action.staged + _KEPT, action.staged, renaming.aside(action)):
        key = sites.key_of(directory, name)
        if key is not None:
            is_new = name == action.staged + _KEPT or key == action.new
            found.append(Left(PUT_ASIDE if is_new else STAYS, path, os.path.join(above, name)))
    if is_put and not found and sites.key_of(directory, action.name) is not None:
        found.append(Left(STAYS, path))
    return found


def restored(root: int, journal: Journal) -> list[tuple[bytes, os.stat_result]]:
    """What is at its place again after an undo, by its path, but for what the host has changed, before the apply or
    meanwhile. Raises OSError.
    """
    found: list[tuple[bytes, os.stat_result]] = []

    def look(directory: int, action: Action) -> None:
        st = os.stat(action.name, dir_fd=directory, follow_symlinks=False)
        if stamps.is_still(directory, action.name, action.old, action.stamp):
            found.append((os.path.join(journal.sites[action.site].path, action.name), st))

    if journal.phase != STAGING:
        seen = [each for each in journal.actions if each.old is not None and not each.clashes]
        sites.each_in_any_case(root, journal.sites, seen, look)
    return found
