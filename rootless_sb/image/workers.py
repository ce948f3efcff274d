"""The processes that unpack layers: one for each processor, so that several layers are unpacked at once.

They are forked before anything heavy is imported and end with the process that has forked them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless_sb import fields
from rootless_sb.errors import Doing, SbError
from rootless_sb.image.decompression import Limits
from rootless_sb.kernel import channel, processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from rootless_sb.image.store import Store
    from rootless_sb.kernel.channel import Channel

_MOST = 8
_STEP = 1 << 20  # bytes of a blob between two words of progress


class Workers:
    """The processes, for a `with`. `count`: how many there are; whoever gives them work takes one each."""

    __slots__ = ("_ends", "_pids", "count")

    def __init__(self, store: Store, limits: Limits = Limits()) -> None:  # noqa: B008 (a constant)
        self.count = min(len(os.sched_getaffinity(0)), _MOST)
        self._ends: list[Channel] = []
        self._pids: list[int] = []
        for _ in range(self.count):
            ours, theirs = channel.pair()
            with Doing("cannot fork"):
                self._pids.append(processes.fork(lambda end=theirs: _serve(end, store, limits), {theirs.fileno()}))  # type: ignore[misc]  # a lambda that keeps its end
            theirs.close()
            self._ends.append(ours)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for end in self._ends:
            end.close()
        for pid in self._pids:
            os.waitpid(pid, 0)

    async def unpack(self, number: int, layer: str, blob: str, told: Callable[[int], None]) -> None:
        """Have the worker of this number unpack the blob at a path as a layer. Raises SbError.

        Who was cancelled (a mirror has failed) has left it at work: what it says of that layer is passed over.
        """
        import trio

        end = self._ends[number]
        end.send(fields.encode((("layer", layer), ("blob", blob))))
        while True:
            await trio.lowlevel.wait_readable(end.fileno())
            message, _ = end.receive()
            answer = fields.decode(message)
            if not answer:
                raise SbError("cannot unpack a layer", "the process that does it was ended", "was memory short?")
            if answer["layer"] != [layer]:
                continue
            if "done" in answer:
                return
            if "what" in answer:
                raise SbError(answer["what"][0], answer["why"][0], answer["hint"][0])
            told(int(answer["progress"][0]))


def _serve(end: Channel, store: Store, limits: Limits) -> int:
    """A worker's life: a layer for each message."""
    processes.die_with_parent()
    processes.set_name("sb-unpack")
    while message := end.receive()[0]:
        wanted = fields.decode(message)
        layer, blob = wanted["layer"][0], wanted["blob"][0]
        try:
            _unpack(end, store, limits, layer, blob)
        except SbError as error:
            answer = [("what", error.what), ("why", error.why), ("hint", error.hint)]
        else:
            answer = [("done", "")]
        end.try_send(fields.encode((("layer", layer), *answer)))
    return 0


def _unpack(end: Channel, store: Store, limits: Limits, layer: str, blob: str) -> None:
    last = 0

    def tell(done: int) -> None:
        nonlocal last
        if done - last >= _STEP:
            last = done
            # When nobody waits any more, this ends the unpacking.
            end.send(fields.encode((("layer", layer), ("progress", str(done)))))

    with Doing(f"cannot read {blob}"):
        descriptor = os.open(blob, os.O_RDONLY | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        store.add_layer(layer, file, limits, tell)
