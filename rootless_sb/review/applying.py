"""Bringing changes to the host, all or none: staged beside their targets, and then renamed.

Whoever is killed meanwhile leaves a journal (see `journal`), by which the next call undoes or finishes what was begun.
"""

from __future__ import annotations

import os
import signal
import stat
from typing import TYPE_CHECKING

from fuse_overlay import origin, xattrs
from rootless_sb.errors import Doing, SbError
from rootless_sb.review import committing, dressing, journal, sites, traces
from rootless_sb.review.actions import TOUCH, decide, touched
from rootless_sb.review.journal import COMMITTED, COMMITTING, STAGING, Journal
from rootless_sb.review.staging import Stage
from rootless_sb.ui.changes import shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from rootless_sb.review.actions import Action, Decided
    from rootless_sb.review.changes import Change
    from rootless_sb.review.layer import LayerView
    from rootless_sb.review.owners import Identity

_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_AGAIN = "the next sb apply of this sandbox tries again"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Interrupted(BaseException):
    """A signal asks us to end."""


def apply(own: int, view: LayerView, root: str, changes: Sequence[Change], who: Identity) -> None:
    """Bring changes to the host's tree at `root`. Raises SbError, with nothing changed.

    `own`: the directory of the sandbox, whose lock the caller holds.
    """
    try:
        top = os.open(root, _ROOT)
    except OSError as error:
        raise SbError(f"cannot apply to {root}", error.strerror or str(error)) from error
    before = {number: signal.signal(number, _interrupt) for number in _ENDING}
    try:
        _apply(own, view, Journal(STAGING, root, (), ()), top, changes, who)
        _remember(view, top, changes)
    except OSError as error:
        raise SbError(f"cannot apply {_place(error)}", error.strerror or str(error), "nothing was changed") from error
    except _Interrupted:
        raise SbError("the apply was interrupted", hint="nothing was changed") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(top)


def _apply(own: int, view: LayerView, notes: Journal, top: int, changes: Sequence[Change], who: Identity) -> None:
    decided = decide(changes, os.urandom(4).hex())
    places = sites.look(top, decided.sites, who.uid)
    notes = notes._replace(sites=places, actions=_with_attributes(view, decided, changes, who))
    journal.write(own, notes)
    try:
        sites.widen(top, places)
        stage = Stage(view, top, places, who)
        try:
            stage.make_all(decided)
        finally:
            stage.close()
        notes = notes._replace(phase=COMMITTING, actions=_with_keys(top, notes))
        journal.write(own, notes)
        committing.commit(top, notes)
        _hold_signals()
        done = notes._replace(phase=COMMITTED)
        journal.write(own, done)
    except BaseException:
        _hold_signals()
        with Doing("cannot undo what was begun", _AGAIN):
            committing.undo(top, notes)
            journal.remove(own)
        raise
    with Doing("all is applied, but what was replaced can't be removed", _AGAIN):
        committing.finish(top, done)
        journal.remove(own)


def settle(own: int) -> str:
    """Finish or undo an apply that was cut short; which of both, in a word, empty if there was none. Raises SbError.

    `own`: the directory of the sandbox, whose lock the caller holds.
    """
    try:
        notes = journal.read(own)
        if notes is None:
            return ""
        top = os.open(notes.root, _ROOT)
        try:
            committing.settle(top, notes)
        finally:
            os.close(top)
        journal.remove(own)
    except (OSError, ValueError) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        where = _place(error) if isinstance(error, OSError) else ""
        raise SbError(f"cannot undo an apply that was cut short {where}".rstrip(), why) from error
    return "finished" if notes.phase == COMMITTED else "undone"


def is_unsettled(own: int) -> bool:
    """Whether an apply was cut short. Raises OSError."""
    return os.access("apply", os.F_OK, dir_fd=own)


def _with_attributes(view: LayerView, decided: Decided, changes: Sequence[Change], who: Identity) -> tuple[Action, ...]:
    """The actions, with the attributes that are changed in place."""
    waiting = iter(touched(changes))

    def complete(action: Action) -> Action:
        if action.kind != TOUCH:
            return action
        before, after = dressing.wanted(view, next(waiting), who)
        return action._replace(before=before, after=after)

    return tuple(map(complete, decided.actions))


def _with_keys(top: int, notes: Journal) -> tuple[Action, ...]:
    """The actions, with what is staged for them."""
    found: list[Action] = []

    def add(directory: int, action: Action) -> None:
        found.append(action._replace(new=sites.key_of(directory, action.staged)))

    sites.each(top, notes.sites, notes.actions, add)
    return tuple(found)


def _remember(view: LayerView, top: int, changes: Sequence[Change]) -> None:
    """Let the layer's files know what is on the host now: it is none of the host's doing. Raises OSError."""
    for change in changes:
        if change.after is None or change.after.kind not in (stat.S_IFREG, stat.S_IFDIR):
            continue
        above, _, name = change.path.rpartition(b"/")
        fd = sites.open_path(top, above)
        try:
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(fd)
        node = view.upper.require(view.directory_at(view.upper, above), name)
        file = view.upper.file(node)
        if node.real_kind == change.after.kind and file.layer.xattrs:
            known = traces.origin_of(view, node)
            number = known.number if known is not None else view.upper.table.numbers.derive(node.key)
            value = origin.encode(origin.of(number, change.path.lstrip(b"/"), st))
            view.upper.store.change(file, {xattrs.ORIGIN: value})


def _place(error: OSError) -> str:
    """The path in the sandbox at which something failed, in words."""
    return shown(os.fsencode(error.filename)) if error.filename is not None else "the changes"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _Interrupted


def _hold_signals() -> None:
    """From here on it is quicker to come to an end than to turn round."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
