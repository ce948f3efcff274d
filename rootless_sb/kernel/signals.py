"""Signals as readable events, for processes that wait in poll(2)."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class SignalPipe:
    """Turns the signals it is given into bytes on a pipe; `reader` is the descriptor to poll.

    (Python has no signalfd(2); set_wakeup_fd is its own way to the same.)
    """

    __slots__ = ("_writer", "reader")

    def __init__(self, numbers: Iterable[int]) -> None:
        self.reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in numbers:
            if signal.getsignal(number) != signal.SIG_IGN:  # what the caller ignores, nohup(1) say, stays ignored
                signal.signal(number, _noted)

    def take(self) -> list[int]:
        """The numbers of the signals that came in since the last call, in order."""
        try:
            return list(os.read(self.reader, 4096))
        except BlockingIOError:
            return []


def _noted(number: int, frame: object) -> None:
    """A Python handler must exist for set_wakeup_fd to see the signal; the number is read from the pipe."""
