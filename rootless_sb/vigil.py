"""The watcher's wait for the end of a sandbox, which it brings about where nobody else can."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb import memory, protocol, turns

if TYPE_CHECKING:
    from rootless_sb.kernel.channel import Channel
    from rootless_sb.kernel.signals import SignalPipe


class Bounds(NamedTuple):
    """`backstop`: seconds from the command's start until all is ended, None for ever; `memory`: bytes, and `running`:
    threads that may run at once, 0 for any number; `mark`: see `turns.new_mark`.
    """

    backstop: float | None
    memory: int
    running: int
    mark: int


class Vigil:
    """Waits for pid 1's end. It is ended with the supervisor and with the server, some time after the command's start,
    and when the sandbox uses more memory than it may. Meanwhile turns are taken where too many run.
    """

    __slots__ = (
        "_bounds", "_deadline", "_events", "_look_due", "_memory", "_own_ipc", "_pid", "_server", "_supervisor",
        "_turns",
    )  # fmt: skip

    def __init__(
        self, pid: int, events: SignalPipe, supervisor: Channel, server: Channel | None, *, own_ipc: bool
    ) -> None:
        """`pid`: pid 1's; `events` must turn readable when it ends. `server`: None if there is none. `own_ipc`: we are
        in its IPC namespace.
        """
        self._pid = pid
        self._own_ipc = own_ipc
        self._events = events
        self._supervisor = supervisor
        self._server = server
        self._bounds = Bounds(None, 0, 0, -1)
        self._deadline: float | None = None
        self._memory: memory.MemoryWatch | None = None
        self._look_due = 0.0
        self._turns: turns.Watch | None = None

    def wait(self, bounds: Bounds) -> int:
        """Returns pid 1's wait status.

        waitpid(2) for the first process of a PID namespace returns after all others in it are gone: pid_namespaces(7).
        """
        self._bounds = bounds
        try:
            return self._wait()
        finally:
            self._forget_memory()
            if self._turns is not None:
                self._turns.close()

    def _wait(self) -> int:
        poll = select.poll()
        links = [self._supervisor] if self._server is None else [self._supervisor, self._server]
        for descriptor in (self._events.reader, *(link.fileno() for link in links)):
            poll.register(descriptor, select.POLLIN)
        while True:
            # Before pid 1, which has its end only when all in its PID namespace have been reaped.
            failure = self._turns.failure() if self._turns is not None else None
            if failure is not None:
                self._supervisor.try_send(protocol.encode(protocol.UNTURNED, failure))
                self._end()
            ended, wait_status = os.waitpid(self._pid, os.WNOHANG)
            if ended:
                self._hear_rest()
                return wait_status
            ready = poll.poll(self._patience())
            self._look(poll)
            for descriptor, _ in ready:
                if not self._hear(descriptor):
                    poll.unregister(descriptor)
                    self._end()

    def _hear(self, descriptor: int) -> bool:
        """Take what has come on a descriptor; whether its other end is still there."""
        if descriptor == self._events.reader:
            self._events.take()
        elif self._server is not None and descriptor == self._server.fileno():
            message, _ = self._server.receive()
            if message:
                self._supervisor.try_send(message)
            return bool(message)
        else:
            started, _ = self._supervisor.receive()
            if started:
                self._begin()
            return bool(started)
        return True

    def _hear_rest(self) -> None:
        """Pass on what the server has said while the sandbox ended."""
        if self._server is None:
            return
        poll = select.poll()
        poll.register(self._server.fileno(), select.POLLIN)
        while poll.poll(0) and self._hear(self._server.fileno()):
            continue

    def _begin(self) -> None:
        """The command has started: its limits count from now."""
        bounds = self._bounds
        if bounds.backstop is not None:
            self._deadline = time.monotonic() + bounds.backstop
        try:
            if bounds.memory:
                self._memory = memory.MemoryWatch(self._pid, bounds.memory, own_ipc=self._own_ipc)
            if bounds.running:
                self._turns = turns.Watch(self._pid, bounds.running, bounds.mark)
        except OSError:  # it has just ended
            return

    def _patience(self) -> int | None:
        """Milliseconds until something is due."""
        looks = (self._look_due if self._memory else None, self._turns.due if self._turns else None)
        due = [each for each in (self._deadline, *looks) if each is not None]
        return int(max(min(due) - time.monotonic(), 0.0) * 1000) + 1 if due else None

    def _look(self, poll: select.poll) -> None:
        """See to what is due, unless something comes that `poll` tells of."""
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            self._end()
        self._see_to_turns()
        if self._memory is not None and now >= self._look_due:
            try:
                left = self._memory.left(lambda: self._is_pressed(poll))
            except InterruptedError:
                return
            after = time.monotonic()
            self._look_due = after + memory.pause(left, after - now)
            if left < 0:
                self._forget_memory()
                self._supervisor.try_send(protocol.encode(protocol.EXCEEDED, protocol.MEMORY))
                self._end()

    def _see_to_turns(self) -> None:
        if self._turns is not None and time.monotonic() >= self._turns.due:
            self._turns.look()

    def _is_pressed(self, poll: select.poll) -> bool:
        """Whether there is something more urgent than a look at memory. That takes very long beside a crowd that takes
        no turns, so these are seen to meanwhile.
        """
        self._see_to_turns()
        overdue = self._deadline is not None and time.monotonic() >= self._deadline
        return overdue or bool(poll.poll(0))

    def _forget_memory(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def _end(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
