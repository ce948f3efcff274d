"""Writes the id maps of user namespaces, and lets this process be the master of its user's subordinate ids."""

from __future__ import annotations

import os

from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import channel, namespaces, processes
from rootless_sb.maps import IdMaps, MapLine
from rootless_sb.requirements import Lacking


def write_by_helpers(pid: int, maps: IdMaps) -> str:
    """Have newgidmap(1) and newuidmap(1) write the maps of a process's user namespace, in which nothing is mapped yet;
    the path of the one that refused, empty if none did. Raises OSError.

    Groups first: while no uid is mapped, the process can still map the one id by itself.
    """
    for helper, lines in zip(reversed(maps.helpers or ()), (maps.gids, maps.uids), strict=True):
        numbers = [str(number) for line in lines for number in line]
        helping = processes.run_silently([helper, str(pid), *numbers])
        if processes.exit_code(os.waitpid(helping, 0)[1]) != 0:
            return helper
    return ""


def enter(maps: IdMaps) -> None:
    """Move this process into a user namespace in which all ids of these maps are themselves, and it has power over
    their files. Nothing is done without subordinate ids, or the second time. Raises SbError.
    """
    itself = IdMaps(_themselves(maps.uids), _themselves(maps.gids), maps.helpers)
    if maps.helpers is None or _is_mapped(itself):
        return
    ours, theirs = channel.pair()
    parent = os.getpid()
    with Doing("cannot fork"):
        child = processes.fork(lambda: _map_parent(parent, itself, theirs), {theirs.fileno()})
    theirs.close()
    with Lacking("user"):
        namespaces.unshare(namespaces.NEWUSER)
    ours.try_send(b"unshared")
    ours.finish()
    code = processes.exit_code(os.waitpid(child, 0)[1])
    ours.close()
    if code != 0:
        raise SbError("cannot reach files of your subordinate ids", f"{' or '.join(maps.helpers)} refused them")


def _is_mapped(maps: IdMaps) -> bool:
    """Whether this process is in a user namespace with these maps."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return tuple(MapLine(*map(int, line.split())) for line in file) == maps.uids


def _themselves(lines: tuple[MapLine, ...]) -> tuple[MapLine, ...]:
    return tuple(sorted(MapLine(line.outside, line.outside, line.size) for line in lines))


def _map_parent(parent: int, maps: IdMaps, orders: channel.Channel) -> int:
    """In a child that has stayed outside: map the parent once it is in its namespace; the exit status."""
    message, _ = orders.receive()
    return 1 if not message or write_by_helpers(parent, maps) else 0
