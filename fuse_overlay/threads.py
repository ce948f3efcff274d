"""What may take long is done by threads, and other requests are answered meanwhile.

pyfuse3's loop reads a request and awaits its handler before it reads the next one. A handler that waits for a thread
therefore has another such loop started, which reads on. When the handler is done there is one loop too many, and the
next one that wants to read ends instead (`is_surplus`). So requests are still read by one task at a time, and the code
that answers them runs in one thread, from its beginning to its end: only what is asked of here is done beside it.

trio is imported when something is asked of here for the first time: see `loop`.
"""

from __future__ import annotations

import os
import types
from typing import TYPE_CHECKING, TypeVar

from fuse_overlay.kernel.shortcut import SHORTCUT
from fuse_overlay.libfuse import pyfuse3

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from typing import Any, TypeAlias

    import trio

    Task: TypeAlias = Coroutine[Any, Any, None]

T = TypeVar("T")

# As many threads may hang at once, each for a file system below that doesn't answer; what comes then waits for them.
_MOST = 64

# pyfuse3 never has to start a task of its own beside a loop: it does when it counts fewer than this.
_NO_TASKS = -(1 << 30)


class Threads:
    """The loops that read requests, and the threads beside them. `busy`: some thread has something to do."""

    __slots__ = ("_ending", "_limiter", "_nursery", "_reader", "_reading", "_waits_for_trio", "busy")

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None
        self._limiter: trio.CapacityLimiter | None = None
        self._reader: Callable[[], Task] | None = None
        self._waits_for_trio = False
        self._reading = 0
        self._ending = 0
        self.busy = 0

    def wait_for_trio(self) -> None:
        """From here on a request that asks for a thread waits until `start` is called."""
        self._waits_for_trio = True

    def start(self, nursery: trio.Nursery, first: Task, reader: Callable[[], Task]) -> None:
        """Go on with a task that reads requests, perhaps in the middle of one; `reader` makes others. The nursery is
        cancelled when there will be no more of them.
        """
        from trio import CapacityLimiter

        self._nursery = nursery
        self._reader = reader
        self._limiter = CapacityLimiter(_MOST)
        self._start_reading(first)

    def stop(self) -> None:
        """The loop has ended: what is to be done is done at once from now on."""
        self._nursery = None
        self._waits_for_trio = False

    async def run(self, function: Callable[[], T]) -> T:
        """What a function returns, which may take long and must use nothing that other requests change.

        Where there is no loop, as in a test without a mount, it is called here. Raises what the function does.
        """
        if self._nursery is None:
            if not self._waits_for_trio:
                return function()
            await _until_resumed()
        import trio

        self._reading -= 1
        self._count(1)
        if self._reading == 0 and self._reader is not None:
            self._start_reading(self._reader())
        try:
            return await trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=self._limiter)
        finally:
            self._count(-1)
            self._reading += 1

    def close(self, fd: int) -> None:
        """Close a descriptor, which may take long, some time. What close(2) says, nobody learns."""
        if self._nursery is None:
            os.close(fd)
        else:
            self._count(1)
            self._nursery.start_soon(self._close, fd)

    def is_surplus(self) -> bool:
        """Whether the loop that is about to wait for a request is to end instead."""
        if self._reading <= 1:
            return False
        self._reading -= 1
        self._ending += 1
        return True

    def _count(self, change: int) -> None:
        self.busy += change
        SHORTCUT.be_patient(not self.busy)

    async def _close(self, fd: int) -> None:
        import trio

        try:
            await trio.to_thread.run_sync(os.close, fd, abandon_on_cancel=True, limiter=self._limiter)
        except OSError:
            pass  # the descriptor is gone all the same
        finally:
            self._count(-1)

    def _start_reading(self, task: Task) -> None:
        if self._nursery is not None:
            self._reading += 1
            self._nursery.start_soon(self._read, task)

    async def _read(self, task: Task) -> None:
        await _rest(task)
        if self._ending:
            self._ending -= 1
        elif self._nursery is not None:
            self._nursery.cancel_scope.cancel()  # the mount is gone


async def read_requests() -> None:
    """Answer requests until the mount is gone, or there is a loop too many."""
    await pyfuse3.main(min_tasks=1, max_tasks=_NO_TASKS)


@types.coroutine
def _until_resumed() -> Generator[None, None, None]:
    yield


@types.coroutine
def _rest(task: Task) -> Generator[Any, Any, None]:
    """What is left of a task that may have begun elsewhere: `await` refuses such a one."""
    yield from task.__await__()


THREADS = Threads()
