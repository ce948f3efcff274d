"""Bringing changes to the host, all or none: staged beside their targets, and then renamed.

Whoever is killed meanwhile leaves a journal (see `journal`), by which the next call undoes or finishes what was begun.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
from typing import TYPE_CHECKING

from rootless_sb import faults
from rootless_sb.errors import Doing, SbError
from rootless_sb.review import committing, dressing, history, journal, leftovers, sites, undoing
from rootless_sb.review.actions import TOUCH, decide
from rootless_sb.review.journal import COMMITTED, COMMITTING, STAGING, Journal
from rootless_sb.review.staging import Stage, stamped
from rootless_sb.ui.changes import shown
from rootless_sb.ui.messages import warn_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from rootless_sb.review.actions import Action, Decided
    from rootless_sb.review.assessment import Verdict
    from rootless_sb.review.changes import Change
    from rootless_sb.review.layer import LayerView
    from rootless_sb.review.leftovers import Left
    from rootless_sb.review.owners import Identity

_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_AGAIN = "the next sb apply of this sandbox tries again"
_MEANWHILE = "the host has changed it meanwhile"
_NOTHING, _ALL_ELSE = "nothing was changed", "all else is as it was before"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Interrupted(BaseException):
    """A signal asks us to end."""


def apply(own: int, view: LayerView, root: str, verdicts: Sequence[Verdict], who: Identity) -> None:
    """Bring the changes that were judged to the host's tree at `root`. Raises SbError, with nothing changed.

    `own`: the directory of the sandbox, whose lock the caller holds.
    """
    try:
        top = os.open(root, _ROOT)
    except OSError as error:
        raise SbError(f"cannot apply to {root}", error.strerror or str(error)) from error
    before = {number: signal.signal(number, _interrupt) for number in _ENDING}
    try:
        _apply(own, view, Journal(STAGING, root, (), ()), top, verdicts, who)
    except OSError as error:
        why = _MEANWHILE if error.errno in (errno.ESTALE, errno.EEXIST) else error.strerror or str(error)
        raise SbError(f"cannot apply {_place(error)}", why, _hint(error)) from error
    except _Interrupted as error:
        raise SbError("the apply was interrupted", hint=_hint(error)) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(top)


def _apply(own: int, view: LayerView, notes: Journal, top: int, verdicts: Sequence[Verdict], who: Identity) -> None:
    decided = decide([each.change for each in verdicts], os.urandom(4).hex())
    places = sites.look(top, decided.sites, who.uid)
    notes = notes._replace(sites=places, actions=_completed(view, decided, verdicts, who))
    journal.write(own, notes)
    try:
        sites.widen(top, places)
        stage = Stage(view, top, places, who, {each.change.path: each.attributes for each in verdicts})
        try:
            stage.make_all(decided)
        finally:
            stage.close()
        staged = stamped(top, places, notes.actions, stage.keys)
        committing_notes = notes._replace(phase=COMMITTING, actions=tuple(staged))
        journal.write(own, committing_notes)
        notes = committing_notes  # not before: until it is written nothing is put into place
        committing.commit(top, notes)
        history.prepare(own, _now(top, [each.change for each in verdicts]))
        faults.point("apply-prepared")
        _hold_signals()
        done = journal.advance(own, notes, COMMITTED)
    except BaseException as error:
        _hold_signals()
        with Doing("cannot undo what was begun", _AGAIN):
            if _undo(own, top, notes):
                error.add_note(_ALL_ELSE)
        raise
    with Doing("all is applied, but what was replaced can't be removed", _AGAIN):
        _finish(own, top, done, [each.change for each in verdicts if _may_have_links(each.change)])


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
            if notes.phase == COMMITTED:
                _finish(own, top, notes)
            else:
                _undo(own, top, notes)
        finally:
            os.close(top)
    except (OSError, ValueError) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        where = _place(error) if isinstance(error, OSError) else ""
        raise SbError(f"cannot undo an apply that was cut short {where}".rstrip(), why) from error
    return "finished" if notes.phase == COMMITTED else "undone"


def _finish(own: int, top: int, notes: Journal, linked: Sequence[Change] = ()) -> None:
    """Note what is applied, and clear away what was replaced. Raises OSError; SbError if that can't be noted.

    `linked`: files that may be other names of what was replaced, whose st_ctime is another one when that is gone.
    """
    unnoted = Doing("all is applied, but that can't be noted", _AGAIN)
    with unnoted:
        history.adopt(own)
    left = committing.finish(top, notes)
    with unnoted:
        if later := [*committing.finished(top, notes), *_now(top, linked)]:
            history.add(own, later)
        _tell(left, notes)
        journal.remove(own)


def _may_have_links(change: Change) -> bool:
    """Whether the file that was made for a change can be one that has other names."""
    return change.after is not None and change.after.kind != stat.S_IFDIR and change.after.st.st_nlink > 1


def _undo(own: int, top: int, notes: Journal) -> bool:
    """Undo what was begun, and say what stays. Returns whether anything does. Raises OSError; SbError if only the notes
    of it can't be brought up to date.

    That changes the times of what is put in its place again, which is none of the host's doing.
    """
    left = undoing.undo(top, notes)
    _tell(left, notes)
    with Doing("all is undone, but that can't be noted", _AGAIN):
        if restored := undoing.restored(top, notes):
            history.add(own, restored)
        history.drop(own)
        journal.remove(own)
    return bool(left)


def _tell(left: Sequence[Left], notes: Journal) -> None:
    """Say what the host has changed and so wasn't removed: before the journal is, or nobody would know of it."""
    warn_all(tuple(leftovers.lines(left, notes.root)))


def _hint(error: BaseException) -> str:
    """What an apply that has failed leaves of the host's, in words."""
    return _ALL_ELSE if _ALL_ELSE in getattr(error, "__notes__", ()) else _NOTHING


def _completed(view: LayerView, decided: Decided, verdicts: Sequence[Verdict], who: Identity) -> tuple[Action, ...]:
    """The actions, with what the directories held that go, the attributes that are changed in place, and conflicts."""
    judged = {each.change.path: each for each in verdicts}

    def complete(action: Action) -> Action:
        verdict = judged[decided.sites[action.site] + b"/" + action.name]
        action = action._replace(clashes=bool(verdict.conflict))
        if action.kind == TOUCH:
            before, after = dressing.wanted(view, verdict.change, who, verdict.attributes)
            return action._replace(before=before, after=after)
        return action if verdict.contents is None else action._replace(stamp=verdict.contents)

    return tuple(map(complete, decided.actions))


def _now(top: int, changes: Sequence[Change]) -> Iterator[tuple[bytes, os.stat_result | None]]:
    """What is on the host now where changes were applied, None for nothing. Raises OSError."""
    current, fd = b"", os.dup(top)
    try:
        for change in changes:
            above, _, name = change.path.rpartition(b"/")
            if change.after is None:
                yield change.path, None
                continue
            if above != current:
                opened = sites.open_path(top, above)
                os.close(fd)
                current, fd = above, opened
            yield change.path, os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:  # somebody removes it already: the rest may be taken for the host's doing
        return
    finally:
        os.close(fd)


def _place(error: OSError) -> str:
    """The path in the sandbox at which something failed, in words."""
    return shown(os.fsencode(error.filename)) if error.filename is not None else "the changes"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _Interrupted


def _hold_signals() -> None:
    """From here on it is quicker to come to an end than to turn round."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
