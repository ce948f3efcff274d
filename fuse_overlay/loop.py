"""How the server waits for requests.

pyfuse3 takes a lock and waits with trio before each request; trio's way round its scheduler costs more than most
requests. Here the descriptor itself is waited for, and trio is gone to only when nothing has come for some
milliseconds, or when its other tasks (signals) have waited for long enough. A client that does one thing after another
leaves a gap before each request, so asking without waiting would find nothing most of the time. With the compiled
helper (kernel/shortcut.py) that wait is the helper's.

pyfuse3 looks up `trio` in its own module at each use, which is how pyfuse3.asyncio plugs in. It uses Lock,
ClosedResourceError, open_nursery, and from lowlevel: wait_readable, notify_closing, current_task, current_trio_token
(pyfuse3 3.5, src/pyfuse3/internal.pxi and __init__.pyx).
"""

from __future__ import annotations

import errno
import select
from typing import TYPE_CHECKING

import trio

from fuse_overlay.kernel.shortcut import SHORTCUT
from fuse_overlay.libfuse import pyfuse3
from fuse_overlay.threads import THREADS

if TYPE_CHECKING:
    from fuse_overlay.handshake import Handshake

# What a read says when the mount went in the middle of it: unmounted, or its connection aborted (fuse_dev_do_read).
_GONE = (errno.ENODEV, errno.ECONNABORTED)
# Requests in a row before trio's other tasks have a turn; fewer when a thread may have brought what one waits for.
_TURNS = 256
_FEW_TURNS = 8

# How long a request may take to come before trio is asked to wait for it, in milliseconds.
_GAP = 5


class _NoLock:
    """In place of trio.Lock around the descriptor: with one task that reads from it, there is nothing to lock."""

    __slots__ = ()

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *error: object) -> None:
        return None


class _LowLevel:
    """In place of trio.lowlevel."""

    def __init__(self, handshake: Handshake | None) -> None:
        self._handshake = handshake
        self._poll = select.poll()
        self._fd = -1
        self._turns = 0
        self.notify_closing = trio.lowlevel.notify_closing
        self.current_task = trio.lowlevel.current_task
        self.current_trio_token = trio.lowlevel.current_trio_token

    async def wait_readable(self, fd: int) -> None:
        """Return when a request can be read from /dev/fuse. Raises trio.ClosedResourceError when the mount is gone."""
        if fd != self._fd:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLIN)
            self._fd = fd
        elif self._handshake is not None:  # the second time: the first request is answered
            self._handshake.finish()
            self._handshake = None
        if THREADS.is_surplus():
            raise trio.ClosedResourceError
        self._turns += 1
        if not SHORTCUT.settle():
            if self._turns % (_FEW_TURNS if THREADS.busy else _TURNS) == 0:
                await trio.lowlevel.checkpoint()
            return
        ready = self._poll.poll(0 if SHORTCUT.loaded or THREADS.busy else _GAP)
        if not ready:
            await trio.lowlevel.wait_readable(fd)
            ready = self._poll.poll(0)
        elif self._turns % (_FEW_TURNS if THREADS.busy else _TURNS) == 0:
            await trio.lowlevel.checkpoint()
        # A connection that has ended polls as an error (fuse_dev_poll in fs/fuse/dev.c). Reading would have libfuse
        # complain on stderr.
        if ready and ready[0][1] & select.POLLERR:
            raise trio.ClosedResourceError


class _Trio:
    """In place of the trio module, for pyfuse3."""

    Lock = _NoLock
    ClosedResourceError = trio.ClosedResourceError
    open_nursery = staticmethod(trio.open_nursery)

    def __init__(self, handshake: Handshake | None) -> None:
        self.lowlevel = _LowLevel(handshake)


def run(handshake: Handshake | None, end_on: int | None = None) -> None:
    """Answer requests until the mount is gone, or the signal `end_on` comes. pyfuse3.init is called before.

    `handshake` is what that led to. Raises OSError and OverlayError.
    """
    pyfuse3.trio = _Trio(handshake)  # type: ignore[attr-defined]  # a private name, in pyfuse3's own asyncio module too
    try:
        trio.run(_main, end_on)
    finally:
        THREADS.stop()


async def _main(end_on: int | None) -> None:
    try:
        async with trio.open_nursery() as nursery:
            if end_on is not None:
                await nursery.start(_wait_for_end, end_on)  # heard from before the first request is answered
            THREADS.start(nursery)
    except* OSError as errors:
        if errors.subgroup(lambda error: isinstance(error, OSError) and error.errno not in _GONE):
            raise


async def _wait_for_end(number: int, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    with trio.open_signal_receiver(number) as signals:
        task_status.started()
        async for _ in signals:
            pyfuse3.terminate()
