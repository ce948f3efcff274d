"""What the host's /proc says of processes: proc_pid_stat(5), proc_pid_status(5)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process of the host. `name` is at most 15 bytes long; a zombie's `state` is Z."""

    pid: int
    parent: int
    name: str
    state: str
    session: int


def all_processes() -> list[Process]:
    """Every process that is there now."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := look(int(name))) is not None:
            found.append(process)
    return found


def look(pid: int) -> Process | None:
    """One process; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    before, _, after = text.rpartition(")")
    state, parent, _, session = after.split()[:4]
    return Process(pid, int(parent), before.partition("(")[2], state, int(session))


def children(pid: int) -> list[Process]:
    """The processes that `pid` is the parent of."""
    return [process for process in all_processes() if process.parent == pid]


def descendants(pid: int) -> list[Process]:
    """The children of `pid`, their children, and so on."""
    by_parent: dict[int, list[Process]] = {}
    for process in all_processes():
        by_parent.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    following = [pid]
    while following:
        below = by_parent.get(following.pop(), [])
        found += below
        following += [process.pid for process in below]
    return found


def numbers(pid: int) -> list[int]:
    """The pids of one process in all PID namespaces that it is in, the reader's first."""
    return [int(number) for number in status(pid, "NSpid").split()]


def status(pid: int, field: str) -> str:
    """A field of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:"))
