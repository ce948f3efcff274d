"""The watcher's wait for the end of a sandbox, which it brings about where nobody else can."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

from rootless_sb import memory, protocol

if TYPE_CHECKING:
    from rootless_sb.kernel.channel import Channel
    from rootless_sb.kernel.signals import SignalPipe


class Vigil:
    """Waits for pid 1's end. It is ended with the supervisor and with the server, some time after the command's start,
    and when the sandbox uses more memory than it may.
    """

    __slots__ = (
        "_backstop", "_deadline", "_events", "_look_due", "_memory", "_most", "_own_ipc", "_pid", "_server",
        "_supervisor",
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
        self._backstop: float | None = None
        self._most = 0
        self._deadline: float | None = None
        self._memory: memory.MemoryWatch | None = None
        self._look_due = 0.0

    def wait(self, backstop: float | None, most: int) -> int:
        """Returns pid 1's wait status. `backstop`: seconds from the command's start until all is ended, None for ever;
        `most`: bytes of memory, 0 for any number.

        waitpid(2) for the first process of a PID namespace returns after all others in it are gone: pid_namespaces(7).
        """
        self._backstop, self._most = backstop, most
        try:
            return self._wait()
        finally:
            self._forget_memory()

    def _wait(self) -> int:
        poll = select.poll()
        links = [self._supervisor] if self._server is None else [self._supervisor, self._server]
        for descriptor in (self._events.reader, *(link.fileno() for link in links)):
            poll.register(descriptor, select.POLLIN)
        while True:
            ended, wait_status = os.waitpid(self._pid, os.WNOHANG)
            if ended:
                return wait_status
            ready = poll.poll(self._patience())
            self._look()
            for descriptor, _ in ready:
                if not self._hear(descriptor):
                    poll.unregister(descriptor)
                    self._end()

    def _hear(self, descriptor: int) -> bool:
        """Take what has come on a descriptor; whether its other end is still there."""
        if descriptor == self._events.reader:
            self._events.take()
        elif self._server is not None and descriptor == self._server.fileno():
            failure, _ = self._server.receive()
            if failure:
                self._supervisor.try_send(failure)
            return bool(failure)
        else:
            started, _ = self._supervisor.receive()
            if started:
                self._begin()
            return bool(started)
        return True

    def _begin(self) -> None:
        """The command has started: its limits count from now."""
        if self._backstop is not None:
            self._deadline = time.monotonic() + self._backstop
        if self._most:
            try:
                self._memory = memory.MemoryWatch(self._pid, self._most, own_ipc=self._own_ipc)
            except OSError:  # it has just ended
                return

    def _patience(self) -> int | None:
        """Milliseconds until something is due."""
        due = [each for each in (self._deadline, self._look_due if self._memory else None) if each is not None]
        return int(max(min(due) - time.monotonic(), 0.0) * 1000) + 1 if due else None

    def _look(self) -> None:
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            self._end()
        if self._memory is not None and now >= self._look_due:
            left = self._memory.left()
            after = time.monotonic()
            self._look_due = after + memory.pause(left, after - now)
            if left < 0:
                self._forget_memory()
                self._supervisor.try_send(protocol.encode(protocol.EXCEEDED, protocol.MEMORY))
                self._end()

    def _forget_memory(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def _end(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
