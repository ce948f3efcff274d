"""How the server waits for requests.

pyfuse3 takes a lock and waits with trio before each request; trio's way round its scheduler costs more than most
requests. Here the descriptor itself is waited for, and trio is gone to only when nothing has come for some
milliseconds, or when its other tasks (signals) have waited for long enough. A client that does one thing after another
leaves a gap before each request, so asking without waiting would find nothing most of the time; and to be woken takes
longer than that gap, so at first we look again and again (`Rhythm`). With the compiled helper (kernel/shortcut.py) that
wait is the helper's.

Where there is no other task there is nothing for a scheduler to do, so trio isn't imported, which would take longer
than all else at the start of a sandbox: see `_Alone`. A request that wants a thread (threads.py) has trio go on with
the task that is under way.

pyfuse3 looks up `trio` in its own module at each use, which is how pyfuse3.asyncio plugs in. It uses Lock,
ClosedResourceError, open_nursery, and from lowlevel: wait_readable, notify_closing, current_task, current_trio_token
(pyfuse3 3.5, src/pyfuse3/internal.pxi and __init__.pyx).
"""

from __future__ import annotations

import errno
import os
import select
import time
from typing import TYPE_CHECKING

from fuse_overlay.kernel.shortcut import SHORTCUT
from fuse_overlay.libfuse import pyfuse3
from fuse_overlay.threads import THREADS, read_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, Self

    import trio

    from fuse_overlay.handshake import Handshake

# What a read says when the mount went in the middle of it: unmounted, or its connection aborted (fuse_dev_do_read).
_GONE = (errno.ENODEV, errno.ECONNABORTED)
# Requests in a row before trio's other tasks have a turn; fewer when a thread may have brought what one waits for.
_TURNS = 256
_FEW_TURNS = 8

# How long a request may take to come before trio is asked to wait for it, in milliseconds.
_PATIENCE = 5

# How long to look for a request before we let ourselves be woken, in nanoseconds; how far to remember what that was
# worth; and what a failure weighs. shortcut.c has the same.
_GAP = 60_000
_WORTH = 16
_FAILURE = 4


class _NoLock:
    """In place of trio.Lock around the descriptor: with one task that reads from it, there is nothing to lock."""

    __slots__ = ()

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *error: object) -> None:
        return None


class _ClosedError(Exception):
    """In place of trio.ClosedResourceError: the mount is gone."""


class Rhythm:
    """Whether requests come so soon after one another that looking for one again and again is of use, mostly. Pure.

    `gap`: for how many nanoseconds; 0: not at all.
    """

    __slots__ = ("_worth", "gap")

    def __init__(self) -> None:
        self._worth = _WORTH
        self.gap = _GAP

    def heed(self, taken: int) -> None:
        """Learn that a request that wasn't there took so many nanoseconds to come, or to wake us."""
        success = taken < (self.gap or 2 * _GAP)
        self._worth = max(-_WORTH, min(_WORTH, self._worth + (1 if success else -_FAILURE)))
        self.gap = _GAP if self._worth > 0 else 0


class _Descriptor:
    """/dev/fuse, as both ways to wait for a request see it."""

    __slots__ = ("_fd", "_handshake", "_poll", "_rhythm")

    def __init__(self, handshake: Handshake | None) -> None:
        self._handshake = handshake
        self._poll = select.poll()
        self._rhythm = Rhythm()
        self._fd = -1

    def comes(self, fd: int) -> bool:
        """Whether a request is there or about to be, as far as the helper has looked."""
        if fd != self._fd:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLIN)
            self._fd = fd
        elif self._handshake is not None:  # the second time: the first request is answered
            self._handshake.finish()
            self._handshake = None
        return not SHORTCUT.settle()

    def wait(self, milliseconds: int | None) -> bool:
        """Wait for a request; whether one is there. Raises _ClosedError when the mount is gone."""
        sleeps = SHORTCUT.loaded or milliseconds == 0
        ready = self._poll.poll(milliseconds) if sleeps else self._look(milliseconds)
        # A connection that has ended polls as an error (fuse_dev_poll in fs/fuse/dev.c). Reading would have libfuse
        # complain on stderr.
        if ready and ready[0][1] & select.POLLERR:
            raise _ClosedError
        return bool(ready)

    def _look(self, milliseconds: int | None) -> list[tuple[int, int]]:
        """What there is by then, as poll(2) says it. Whoever else wants the processor has it meanwhile."""
        ready = self._poll.poll(0)
        if ready:
            return ready
        begin = time.monotonic_ns()
        while not ready and time.monotonic_ns() - begin < self._rhythm.gap:
            os.sched_yield()
            ready = self._poll.poll(0)
        ready = ready or self._poll.poll(milliseconds)
        self._rhythm.heed(time.monotonic_ns() - begin)
        return ready


class _Alone:
    """In place of the trio module, for a server with no other task: its one task waits for nothing but the descriptor,
    where the whole process can wait, until it waits for a thread.
    """

    Lock = _NoLock
    ClosedResourceError = _ClosedError
    name = "server"

    def __init__(self, descriptor: _Descriptor) -> None:
        self._descriptor = descriptor
        self._task: Coroutine[Any, Any, object] | None = None
        self.lowlevel = self

    def open_nursery(self) -> Self:
        """The nursery of pyfuse3.main, for the one task that it starts."""
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._task is not None:
            await self._task

    def start_soon(self, task: Callable[..., Coroutine[Any, Any, object]], *arguments: object, name: str) -> None:
        """Have this task run once the nursery is left."""
        self._task = task(*arguments)

    def current_task(self) -> Self:
        """The task, which has a name."""
        return self

    def current_trio_token(self) -> None:
        """What another thread would need to call in here: there is none."""

    async def wait_readable(self, fd: int) -> None:
        """Return when a request can be read from /dev/fuse. Raises _ClosedError when the mount is gone."""
        if not self._descriptor.comes(fd):
            self._descriptor.wait(None)


class _LowLevel:
    """In place of trio.lowlevel."""

    def __init__(self, descriptor: _Descriptor) -> None:
        import trio

        self._descriptor = descriptor
        self._turns = 0
        self._trio = trio.lowlevel
        self.notify_closing = trio.lowlevel.notify_closing
        self.current_task = trio.lowlevel.current_task
        self.current_trio_token = trio.lowlevel.current_trio_token

    async def wait_readable(self, fd: int) -> None:
        """Return when a request can be read from /dev/fuse. Raises _ClosedError when the mount is gone or there is a
        loop too many, and trio.ClosedResourceError when pyfuse3 is to end.
        """
        if THREADS.is_surplus():
            raise _ClosedError
        self._turns += 1
        is_others_turn = self._turns % (_FEW_TURNS if THREADS.busy else _TURNS) == 0
        if self._descriptor.comes(fd):
            if is_others_turn:
                await self._trio.checkpoint()
            return
        if not self._descriptor.wait(0 if SHORTCUT.loaded or THREADS.busy else _PATIENCE):
            await self._trio.wait_readable(fd)
            self._descriptor.wait(0)
        elif is_others_turn:
            await self._trio.checkpoint()


class _Trio:
    """In place of the trio module, for pyfuse3."""

    Lock = _NoLock

    def __init__(self, descriptor: _Descriptor) -> None:
        import trio

        self.ClosedResourceError = (trio.ClosedResourceError, _ClosedError)  # for an `except`
        self.lowlevel = _LowLevel(descriptor)
        self.open_nursery = trio.open_nursery


def run(handshake: Handshake | None, end_on: int | None = None) -> None:
    """Answer requests until the mount is gone, or the signal `end_on` comes. pyfuse3.init is called before.

    `handshake` is what that led to. Raises OSError and OverlayError.
    """
    descriptor = _Descriptor(handshake)
    task = _serve()
    try:
        if end_on is not None or not _is_done_alone(task, descriptor):
            _go_on_with_trio(task, descriptor, end_on)
    finally:
        THREADS.stop()


def _is_done_alone(task: Coroutine[Any, Any, None], descriptor: _Descriptor) -> bool:
    """Run a task without trio until it ends, which is True, or waits for a thread."""
    pyfuse3.trio = _Alone(descriptor)  # type: ignore[attr-defined]  # private, in pyfuse3's own asyncio module too
    THREADS.wait_for_trio()
    try:
        task.send(None)
    except StopIteration:
        return True
    return False


def _go_on_with_trio(task: Coroutine[Any, Any, None], descriptor: _Descriptor, end_on: int | None) -> None:
    from fuse_overlay.kernel.libraries import without_programs

    with without_programs():  # trio looks for one by which its threads get names
        import trio

    pyfuse3.trio = _Trio(descriptor)  # type: ignore[attr-defined]
    trio.run(_main, end_on, task)


async def _serve() -> None:
    try:
        await read_requests()
    except* OSError as errors:
        if errors.subgroup(lambda error: isinstance(error, OSError) and error.errno not in _GONE):
            raise


async def _main(end_on: int | None, task: Coroutine[Any, Any, None]) -> None:
    import trio

    async with trio.open_nursery() as nursery:
        if end_on is not None:
            await nursery.start(_wait_for_end, end_on)  # heard from before the first request is answered
        THREADS.start(nursery, task, _serve)


async def _wait_for_end(number: int, task_status: trio.TaskStatus[None]) -> None:
    import trio

    with trio.open_signal_receiver(number) as signals:
        task_status.started()
        async for _ in signals:
            pyfuse3.terminate()
