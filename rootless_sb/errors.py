"""The one way to report a failure of sb itself, and the exit statuses that scripts rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

EXIT_TIMEOUT = 124
EXIT_SB = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127


class SbError(Exception):
    """Something that sb was to do failed.

    `what` names the act ("cannot mount /proc"), `why` the reason ("Operation not permitted"), `hint` what a person can
    type or change; `status` is the exit status that it leads to.
    """

    def __init__(self, what: str, why: str = "", hint: str = "", status: int = EXIT_SB) -> None:
        super().__init__(f"{what}: {why}" if why else what)
        self.what = what
        self.why = why
        self.hint = hint
        self.status = status


class Doing:
    """`with Doing("cannot mount /proc"):` turns an OSError inside into an SbError that begins with these words."""

    __slots__ = ("_hint", "_what")

    def __init__(self, what: str, hint: str = "") -> None:
        self._what = what
        self._hint = hint

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise SbError(self._what, error.strerror or str(error), self._hint) from error


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, if any is."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), 1, 0.6)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that names the known name most like `name`; empty if none is."""
    near = nearest(name, known)
    return f"did you mean {near}?" if near else ""
