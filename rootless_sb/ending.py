"""When asking a sandbox to end turns into ending it. Pure: it is told what happens and what time it is.

A signal that asks for an end reaches the command; the second one ends the sandbox. So does the first one, of those that
nobody types (SIGTERM, SIGHUP), when the command takes longer than its grace. Who ends a group of processes may send
SIGTERM and SIGHUP together, and a terminal that goes sends SIGHUP twice: that is one request.

A time limit counts from the command's start. When it has passed the command is asked to end and has its grace. The
watcher ends a sandbox whose supervisor was stopped and so doesn't: nothing in there runs on for ever.

Once the sandbox is told to end, or its command has ended, the rest is the kernel's work and takes no time; if it does,
the overlay server hangs, and a process that waits for its answer can't be killed (fs/fuse/dev.c, request_wait_answer):
then the server is ended too, and at last the watcher, should somebody have stopped it.
"""

from __future__ import annotations

import signal

GRACE = 10.0  # seconds, as docker stop
TEARDOWN = 1.0  # seconds
_TOGETHER = 1.0  # seconds

# What to do.
NOTHING = "nothing"
FORWARD = "forward"
END_COMMAND = "end-command"  # ask it to end, by SIGTERM
END_SANDBOX = "end-sandbox"
END_SERVER = "end-server"
END_WATCHER = "end-watcher"

# What to do about a command that was stopped.
SUSPEND = "suspend"  # stop with it, and later go on together
CONTINUE = "continue"
LEAVE = "leave"

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_NOT_TYPED = (signal.SIGTERM, signal.SIGHUP)


def backstop(timeout: float) -> float | None:
    """Seconds after the command's start in which a sandbox with this time limit is gone in any case; None: no limit."""
    return timeout + GRACE + TEARDOWN if timeout else None


def when_stopped(number: int, *, foreground: bool) -> str:
    """What follows from a command's stop by this signal; `foreground`: sb is a terminal's job, and a shell resumes it.

    Elsewhere only SIGSTOP has an effect, as on any process that no shell watches over: a stop from a terminal is
    ignored in an orphaned process group (setpgid(2)). A script that stops itself doesn't stop its caller.
    """
    if foreground:
        return SUSPEND
    return LEAVE if number == signal.SIGSTOP else CONTINUE


def asks_for_an_end(number: int) -> bool:
    """Whether a signal means that its sender wants an end."""
    return number in _ASKING


class Ending:
    """How far a sandbox is on its way to its end. Times are seconds of any one clock."""

    __slots__ = (
        "_asked",
        "_deadline",
        "_limit",
        "_over",
        "_server_ended",
        "_timeout",
        "forced_by_request",
        "timed_out",
    )

    def __init__(self, timeout: float = 0.0) -> None:
        """`timeout`: seconds that the command may run, 0 for ever."""
        self._timeout = timeout
        self._limit: float | None = None  # when these have passed
        self.timed_out = False  # they have
        self._asked: tuple[int, float] | None = None  # the last signal that asked for an end, and when
        self._deadline: float | None = None
        self._server_ended = False  # END_SERVER was the answer
        self._over = False  # the command has ended, or is being ended
        self.forced_by_request = False  # END_SANDBOX was the answer

    def command_started(self, now: float) -> None:
        """The command runs: its time limit counts from now."""
        if self._timeout and not self._over:
            self._limit = now + self._timeout

    def signalled(self, number: int, now: float) -> str:
        """A signal came for the sandbox: FORWARD it or END_SANDBOX."""
        if not asks_for_an_end(number):
            return FORWARD
        before, self._asked = self._asked, (number, now)
        if before is not None and _is_second(before, number, now):
            return self._force(now)
        if number in _NOT_TYPED and self._deadline is None:
            self._deadline = now + GRACE
        return FORWARD

    def abandoned(self, now: float) -> str:
        """Nobody is left that the sandbox runs for."""
        return self._force(now)

    def command_ended(self, now: float) -> None:
        """The command has ended; what is left of the sandbox must be gone soon."""
        self._over = True
        self._limit = None
        self._deadline = now + TEARDOWN

    def overdue(self, now: float) -> str:
        """What the passing of time asks for."""
        if self._limit is not None and now >= self._limit:
            self._limit = None
            self.timed_out = True
            self._deadline = now + GRACE if self._deadline is None else self._deadline
            return END_COMMAND
        if self._deadline is None or now < self._deadline:
            return NOTHING
        if self._server_ended:
            self._deadline = None
            return END_WATCHER
        if self._over:
            self._server_ended = True
            self._deadline = now + TEARDOWN
            return END_SERVER
        return self._force(now)

    def patience(self, now: float) -> float | None:
        """Seconds until `overdue` may answer something; None: for ever."""
        due = [each for each in (self._deadline, self._limit) if each is not None]
        return max(min(due) - now, 0.0) if due else None

    def _force(self, now: float) -> str:
        self._over = self.forced_by_request = True
        self._limit = None
        self._deadline = now + TEARDOWN
        return END_SANDBOX


def _is_second(before: tuple[int, float], number: int, now: float) -> bool:
    """Whether a signal repeats the request of the one before: not if both are one act, nor if that one is long past."""
    earlier, since = before[0], now - before[1]
    if since < _TOGETHER:
        return number == earlier and number != signal.SIGHUP
    return since < GRACE or earlier in _NOT_TYPED
