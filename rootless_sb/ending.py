"""When asking a sandbox to end turns into ending it. Pure: it is told what happens and what time it is.

A signal that asks for an end reaches the command; the second one ends the sandbox. So does the first one, of those that
nobody types (SIGTERM, SIGHUP), when the command takes longer than its grace. Once the sandbox is told to end, or its
command has ended, the rest is the kernel's work and takes no time; if it does, the overlay server hangs, and a process
that waits for its answer can't be killed (fs/fuse/dev.c, request_wait_answer): then the server is ended too.
"""

from __future__ import annotations

import signal

GRACE = 10.0  # seconds, as docker stop
TEARDOWN = 1.0  # seconds

# What to do.
NOTHING = "nothing"
FORWARD = "forward"
END_SANDBOX = "end-sandbox"
END_SERVER = "end-server"

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_NOT_TYPED = (signal.SIGTERM, signal.SIGHUP)


class Ending:
    """How far a sandbox is on its way to its end. Times are seconds of any one clock."""

    __slots__ = ("_asked", "_deadline", "_over", "forced_by_request")

    def __init__(self) -> None:
        self._asked = 0
        self._deadline: float | None = None
        self._over = False  # the command has ended, or is being ended
        self.forced_by_request = False  # END_SANDBOX was the answer

    def signalled(self, number: int, now: float) -> str:
        """A signal came for the sandbox: FORWARD it or END_SANDBOX."""
        if number not in _ASKING:
            return FORWARD
        self._asked += 1
        if self._asked > 1:
            return self._force(now)
        if number in _NOT_TYPED:
            self._deadline = now + GRACE
        return FORWARD

    def abandoned(self, now: float) -> str:
        """Nobody is left that the sandbox runs for."""
        return self._force(now)

    def command_ended(self, now: float) -> None:
        """The command has ended; what is left of the sandbox must be gone soon."""
        self._over = True
        self._deadline = now + TEARDOWN

    def overdue(self, now: float) -> str:
        """What the passing of time asks for."""
        if self._deadline is None or now < self._deadline:
            return NOTHING
        if self._over:
            self._deadline = None
            return END_SERVER
        return self._force(now)

    def patience(self, now: float) -> float | None:
        """Seconds until `overdue` may answer something; None: for ever."""
        return None if self._deadline is None else max(self._deadline - now, 0.0)

    def _force(self, now: float) -> str:
        self._over = self.forced_by_request = True
        self._deadline = now + TEARDOWN
        return END_SANDBOX
