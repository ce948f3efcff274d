"""The processes of a sandbox, as the host's /proc has them: proc_pid_stat(5), proc_pid_status(5)."""

from __future__ import annotations

import os

from fuse_overlay.tuples import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


class Process(NamedTuple):
    """A process. `inside` is its pid in the sandbox, 0 for those of sb's own that are outside; `depth` counts from the
    root of the tree; `seconds` of processor time; `memory` is what is resident, in bytes.
    """

    pid: int
    parent: int
    inside: int
    depth: int
    state: str
    command: str
    seconds: float
    memory: int


class _Stat(NamedTuple):
    pid: int
    parent: int
    state: str
    name: str
    seconds: float
    memory: int


def below(roots: list[int]) -> dict[int, list[Process]]:
    """For each of these processes: itself and all its descendants, parents first."""
    by_parent: dict[int, list[_Stat]] = {}
    by_pid: dict[int, _Stat] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (found := _stat(int(name))) is not None:
            by_parent.setdefault(found.parent, []).append(found)
            by_pid[found.pid] = found
    return {root: _tree(by_pid[root], by_parent) if root in by_pid else [] for root in roots}


def outside(root: int, inside: int) -> int | None:
    """The pid on the host of the process below `root` that has this pid in the sandbox; None if it has ended."""
    return next((each.pid for each in below([root])[root] if each.inside == inside), None)


def _tree(root: _Stat, by_parent: dict[int, list[_Stat]]) -> list[Process]:
    found = []
    waiting = [(0, root)]
    while waiting:
        depth, each = waiting.pop()
        described = _describe(each, depth)
        if described is not None:
            found.append(described)
        following = sorted(by_parent.get(each.pid, ()), reverse=True)
        waiting += [(depth + 1, child) for child in following]
    return found


def _describe(stat: _Stat, depth: int) -> Process | None:
    """All that is told of a process; None if it has ended meanwhile."""
    try:
        status = _read(stat.pid, "status")
        words = _read(stat.pid, "cmdline").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    numbers = next((line.split()[1:] for line in status.split("\n") if line.startswith("NSpid:")), [])
    inside = int(numbers[1]) if len(numbers) > 1 else 0
    command = " ".join(words).strip() or f"[{stat.name}]"
    return Process(stat.pid, stat.parent, inside, depth, stat.state, command, stat.seconds, stat.memory)


def _stat(pid: int) -> _Stat | None:
    try:
        before, _, after = _read(pid, "stat").rpartition(")")
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return None
    # Counted from field 3, the state: 14 and 15 are utime and stime, 24 is rss.
    fields = after.split()
    seconds = (int(fields[11]) + int(fields[12])) / _TICKS
    return _Stat(pid, int(fields[1]), fields[0], before.partition("(")[2], seconds, int(fields[21]) * _PAGE)


def _read(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
