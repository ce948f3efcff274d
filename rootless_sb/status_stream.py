"""What `--status-fd` tells of a command: one JSON document a line, `started` once it runs and `exited` at the end.

(Written by hand: json would have to be imported by the process that the user waits for.)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless_sb.errors import EXIT_SB, SbError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

# Why a command has ended.
EXIT = "exit"
SIGNAL = "signal"
TIMEOUT = "timeout"
SB = "sb"  # sb itself failed, or ended it because somebody asked sb to


def reason(wait_status: int, *, timed_out: bool) -> str:
    """Why a command has ended that came to its own end, or whose time limit had passed."""
    if timed_out:
        return TIMEOUT
    return SIGNAL if os.WIFSIGNALED(wait_status) else EXIT


class StatusStream:
    """The descriptor that the caller has chosen, or nothing. In a `with`, a failure of sb's is told as the end."""

    __slots__ = ("_ended", "descriptor")

    def __init__(self, descriptor: int | None) -> None:
        """Raises SbError for a descriptor that the caller hasn't opened for writing."""
        self.descriptor = descriptor
        self._ended = False
        if descriptor is not None:
            try:
                inherited = os.get_inheritable(descriptor)  # what we have opened ourselves is not
                os.write(descriptor, b"")
            except (OSError, OverflowError):
                inherited = False
            if not inherited:
                raise SbError(
                    f"--status-fd {descriptor}", "not open for writing", "sb run --status-fd 3 COMMAND 3>FILE"
                )
            os.set_inheritable(descriptor, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SbError | OSError):
            self.exited(error.status if isinstance(error, SbError) else EXIT_SB, SB)

    def started(
        self,
        identifier: str,
        pid: int | None,
        barriers: tuple[str, ...],
        phases: Sequence[tuple[str, float]] = (),
        began: float = 0.0,
    ) -> None:
        """A command runs in this sandbox. `pid`, on the host: for `sb run` the sandbox's pid 1, for `sb exec` the
        command's own, None if it has ended already. `barriers`: the names of those in force. `phases` of the start, in
        milliseconds, and when sb `began`, in seconds of CLOCK_MONOTONIC, for `sb run`.
        """
        number = "null" if pid is None else pid
        names = ", ".join(f'"{name}"' for name in barriers)
        told = f'"event": "started", "id": "{identifier}", "pid": {number}, "barriers": [{names}]'
        if phases:
            lengths = ", ".join(f'"{phase}": {length:.3f}' for phase, length in phases)
            told += f', "began": {began:.6f}, "phases": {{{lengths}}}'
        self._write(f"{{{told}}}\n")

    def exited(self, code: int, reason: str) -> None:
        """The end, told once: the exit status that sb ends with, 128 + n for signal n, and why."""
        if not self._ended:
            self._ended = True
            number = code - 128 if reason == SIGNAL else "null"
            self._write(f'{{"event": "exited", "code": {code}, "signal": {number}, "reason": "{reason}"}}\n')

    def _write(self, line: str) -> None:
        if self.descriptor is not None:
            try:
                os.write(self.descriptor, line.encode())
            except OSError:  # nobody reads it any more, or its disk is full: the command matters more
                self.descriptor = None
