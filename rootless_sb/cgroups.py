"""Control groups: what their files say of the machine, and what they are told of a sandbox's limits. Pure.

All of it is version 2 (cgroups(7); Documentation/admin-guide/cgroup-v2.rst), but for what says how much memory there is
in the older hierarchy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rootless_sb.limits import Limits

ROOT = "/sys/fs/cgroup"


class Hierarchy(NamedTuple):
    """Where groups lie, in which hierarchy that is, and the files that say how much memory one may hold and holds."""

    root: str
    controller: str
    most: str
    used: str


UNIFIED = Hierarchy(ROOT, "", "memory.max", "memory.current")
# Documentation/admin-guide/cgroup-v1/memory.rst
OF_MEMORY = Hierarchy(f"{ROOT}/memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes")

# The limits that a group can hold, as `sb inspect` calls them, and their files.
FILES = {"memory": "memory.max", "pids": "pids.max", "cpus": "cpu.max"}
CONTROLLERS = ("memory", "pids", "cpu")
# Where this is, a group as a whole has one share of the processors, however many of its processes run: cgroup-v2.rst,
# cpu.weight. `sb inspect` calls that "running".
SHARE = "cpu.weight"
_DEFAULT_SHARE = 100
# All of a group's processes end together when one has to (memory.oom.group).
TOGETHER = ("memory.oom.group", "1")

# What memory.stat calls what is held of files. (In the older hierarchy that is without what groups beneath hold.)
_OF_FILES = ("active_file", "inactive_file")
_PERIOD = 100_000  # microseconds, cpu.max's own default
_SECOND = 1_000_000  # microseconds
# What a group holds besides the sandbox's processes: pid 1, and the sessions of `sb exec`, which must start though the
# sandbox is full: RLIMIT_NPROC counts exactly.
_SPARE_PROCESSES = 64
_UNLIMITED = "max"


def own(table: str, controller: str = "") -> str | None:
    """The group of a process, in the unified hierarchy or in that of one `controller` alone, from the text of its
    /proc/PID/cgroup; None if it is in none.
    """
    for line in table.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return path
    return None


def is_a_logins(path: str, uid: int) -> bool:
    """Whether a group is one in which systemd has a user's logins and what they start: systemd.special(7), user.slice.

    Who is elsewhere, in a job of a batch system say, was put there, and what they start is to stay there.
    """
    return f"/user-{uid}.slice/" in path


def parents(path: str) -> tuple[str, ...]:
    """The groups around a group, the nearest first and the root, as "", last."""
    parts = path.strip("/").split("/")
    return tuple("".join(f"/{part}" for part in parts[:length]) for length in range(len(parts) - 1, -1, -1))


def settings(limits: Limits) -> dict[str, str]:
    """What to write for these limits into the files of a group."""
    found = {}
    if limits.memory:
        found["memory.max"] = str(limits.memory)
    if limits.memory and not limits.swap:
        found["memory.swap.max"] = "0"
    if limits.processes:
        found["pids.max"] = str(limits.processes + _SPARE_PROCESSES)
    if limits.cpus:
        found["cpu.max"] = f"{max(int(limits.cpus * _PERIOD), 1000)} {_PERIOD}"  # below a millisecond is EINVAL
    return found


def properties(limits: Limits) -> tuple[tuple[str, int], ...]:
    """The same as properties of a unit: systemd.resource-control(5), numbers of 64 bits each."""
    found = []
    if limits.memory:
        found.append(("MemoryMax", limits.memory))
    if limits.memory and not limits.swap:
        found.append(("MemorySwapMax", 0))
    if limits.processes:
        found.append(("TasksMax", limits.processes + _SPARE_PROCESSES))
    if limits.running:  # the controller is only there where something is wanted of it
        found.append(("CPUWeight", _DEFAULT_SHARE))
    if limits.cpus:
        found.append(("CPUQuotaPerSecUSec", max(int(limits.cpus * _SECOND), _SECOND // 100)))
    return tuple(found)


def held(values: Mapping[str, str]) -> tuple[str, ...]:
    """Which limits a group holds whose files, by their names, say this."""
    together = values.get(TOGETHER[0]) == TOGETHER[1]
    set_ = [name for name, file in FILES.items() if values.get(file, _UNLIMITED).split()[0] != _UNLIMITED]
    share = ("running",) if values.get(SHARE) else ()
    return (*(name for name in set_ if name != "memory" or together), *share)


def kills(events: str) -> int:
    """How many processes of a group, and of those beneath, were killed for want of memory, by its memory.events."""
    return sum(_numbers(events, ("oom_kill",)))


def left(most: int, used: str, stat: str) -> int:
    """The bytes that a group's processes can have yet, 1 at least: it may hold `most`, and holds `used`, of which that
    of files, by its memory.stat, can be had back.
    """
    return max(most - int(used or 0) + sum(_numbers(stat, _OF_FILES)), 1)


def _numbers(table: str, names: Iterable[str]) -> list[int]:
    """The numbers behind these names in a file of lines with a name and a number each."""
    known = dict(line.split(maxsplit=1) for line in table.splitlines() if " " in line)
    return [int(known[name]) for name in names if name in known]
