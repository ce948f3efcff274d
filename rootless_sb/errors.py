"""The one way to report a failure of sb itself, and the exit statuses that scripts rely on."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

EXIT_TIMEOUT = 124
EXIT_SB = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
EXIT_KILLED = 137  # by SIGKILL, as when a limit of memory ends it


# What an error of the kernel's means that is nobody's fault but a limit's: fork(2), setrlimit(2).
_OF_LIMITS = {
    errno.EAGAIN: "you have as many processes as you may: ulimit -u tells, or pids.max of your control group",
    errno.EFBIG: "ulimit -f is how large a file may become, sb's own ones too",
}


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
            raise failure(self._what, error, self._hint) from error


def failure(what: str, error: OSError, hint: str = "") -> SbError:
    """The error of something that failed with one of the kernel's; `hint` counts where that doesn't say it all."""
    return SbError(what, error.strerror or str(error), _OF_LIMITS.get(error.errno or 0, hint))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, if any is."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), 1, 0.6)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that names the known name most like `name`; empty if none is."""
    near = nearest(name, known)
    return f"did you mean {near}?" if near else ""
