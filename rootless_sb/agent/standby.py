"""The worker that an agent forks before it is called for, which makes ready meanwhile what takes its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless_sb import prepared
from rootless_sb.agent import worker
from rootless_sb.kernel import channel, processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_sb.kernel.channel import Channel


class Standby:
    """In the agent: the worker that waits for a caller, if there is one, and the one that has got the last."""

    __slots__ = ("_busy", "_waiting")

    def __init__(self) -> None:
        self._waiting: Channel | None = None
        self._busy: Channel | None = None

    @property
    def is_there(self) -> bool:
        """Whether one waits."""
        return self._waiting is not None

    def busy(self) -> int | None:
        """The descriptor that tells of the end of who has got the last caller, None if it has ended."""
        return self._busy.fileno() if self._busy is not None else None

    def prepare(self) -> None:
        """Have one wait. Raises OSError."""
        self._forget()
        if self._waiting is None:
            self._waiting = _fork(_stand_by, set())

    def serve(self, connection: Channel) -> None:
        """Have a caller served: by the worker that waits, or by a new one. Raises OSError."""
        self._forget()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            try:
                waiting.send(b"serve", (connection.fileno(),))
            except ConnectionError:  # it was killed
                waiting.close()
            else:
                self._busy = waiting
                return
        self._busy = _fork(lambda agent: worker.serve(connection, (agent,)), {connection.fileno()})

    def _forget(self) -> None:
        if self._busy is not None:
            self._busy.close()
            self._busy = None


def _fork(role: Callable[[Channel], int], keep: set[int]) -> Channel:
    """Fork a worker, which gets one end of a channel; the other one is returned."""
    ours, theirs = channel.pair()
    try:
        processes.fork(lambda: role(theirs), {theirs.fileno(), *keep})
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return ours


def _stand_by(agent: Channel) -> int:
    """The life of a worker that waits; it ends with the agent, unless it has a caller. Returns its exit status."""
    processes.set_title("sb-ready")
    made = prepared.make()
    _, passed = agent.receive()
    if not passed:
        return 0
    return worker.serve(channel.from_descriptor(passed[0]), (agent,), made)
