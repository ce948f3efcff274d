"""Namespaces that an agent's next worker has made before anybody calls, for the run that it will be.

Among them are those that take long (the id maps of A, the network) and are the same whenever they are made. A mount
namespace isn't: it is a copy of what is mounted at that moment. That of processes has no descriptor without a process.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless_sb import host, mapping, maps, spec
from rootless_sb.kernel import channel, descriptors, namespaces, processes

if TYPE_CHECKING:
    from collections.abc import Collection

    from rootless_sb.kernel.channel import Channel
    from rootless_sb.maps import IdMaps

_A = "user"
_OTHERS = ("net", "uts", "ipc")  # owned by A
_MADE, _MAPPED = b"made", b"mapped"


class Prepared:
    """Namespace A with these id maps, and others in it; nothing is in them, and nobody is."""

    __slots__ = ("_bounds", "_maps", "_opened")

    def __init__(self, id_maps: IdMaps, bounds: tuple[int, ...], opened: dict[str, int]) -> None:
        self._maps = id_maps
        self._bounds = bounds
        self._opened = opened

    def descriptors(self) -> set[int]:
        """What holds them, to keep over a fork."""
        return set(self._opened.values())

    def move_above(self, number: int) -> None:
        """Have all descriptors be above `number`. Raises OSError."""
        self._opened = {name: descriptors.move_above(each, number) for name, each in self._opened.items()}

    def suit(self, id_maps: IdMaps) -> bool:
        """Whether A is what this process would make: with these maps, and bounded by its own limits."""
        return (id_maps, namespaces.bounds()) == (self._maps, self._bounds)

    def enter(self, wanted: Collection[str]) -> tuple[str, ...]:
        """Enter A, and of the others those that are wanted, whose names are returned. Raises OSError."""
        namespaces.setns(self._opened[_A], namespaces.NEWUSER)
        entered = tuple(name for name in _OTHERS if name in wanted)
        for name in entered:
            namespaces.setns(self._opened[name], namespaces.KINDS[name])
        return entered

    def close(self) -> None:
        """Let go of them."""
        for descriptor in self._opened.values():
            os.close(descriptor)
        self._opened = {}


def make() -> Prepared | None:
    """Make what a run without options wants; None if it can't be had, or takes no time: then each run does it by
    itself, and says what fails.
    """
    id_maps = maps.id_maps(spec.ROOT, host.probe())
    if id_maps.helpers is None:
        return None
    bounds = namespaces.bounds()
    ours, theirs = channel.pair()
    try:
        child = processes.fork(lambda: _hold(theirs), {theirs.fileno()})
        theirs.close()
        try:
            made, _ = ours.receive()
            if not made or mapping.write_by_helpers(child, id_maps):
                return None
            ours.send(_MAPPED)
            made, _ = ours.receive()
            if not made:
                return None
            places = {name: f"/proc/{child}/ns/{name}" for name in (_A, *_OTHERS)}
            opened = {name: os.open(place, os.O_RDONLY | os.O_CLOEXEC) for name, place in places.items()}
            return Prepared(id_maps, bounds, opened)
        finally:
            ours.close()
            os.waitpid(child, 0)
    except OSError:
        return None


def _hold(parent: Channel) -> int:
    """In a child: make the namespaces, and be there until they are held by others. The others come after the id maps:
    what the kernel shows of a network in /proc belongs to its namespace's root, if there is one by then.
    """
    others = sum(namespaces.KINDS[name] for name in _OTHERS)
    try:
        namespaces.unshare(namespaces.NEWUSER)
        parent.try_send(_MADE)
        mapped, _ = parent.receive()
        if mapped:
            namespaces.unshare(others)
    except OSError:
        return 1
    parent.try_send(_MADE)
    parent.wait_for_end()
    return 0
