"""What a sandbox may use of the machine. Pure: from options to numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless_sb.host import Host
    from rootless_sb.spec import RunSpec

UNLIMITED = -1  # RLIM_INFINITY, as Python has it
# docker's and podman's names of setrlimit(2)'s limits.
ULIMITS = (
    *("as", "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio"),
    *("rttime", "sigpending", "stack"),
)
# What holds a limit, as `sb inspect` calls it.
GROUP = "control group"
WATCH = "watch"  # memory.py
COUNTED = "RLIMIT_NPROC"
BOUND = "affinity"
TURNS = "turns"  # turns.py
SETRLIMIT = "setrlimit"
OVERLAY = "overlay"  # its quota
SUPERVISOR = "supervisor"
_BY_PID1 = {"pids": COUNTED, "cpus": BOUND}
_FEWEST_PROCESSES = 4096
_PROCESSES_EACH = 32  # for each processor
_SHARE_OF_PROCESSES = 0.75  # of what the user may have
_FEWEST_RUNNING = 128  # `make -j64` on a small machine is nobody's harm
_RUNNING_EACH = 32  # for each processor
_FEWEST_CPUS = 0.01  # as docker has it: a quota of a millisecond (cgroup-v2.rst, cpu.max)
_SHARE_OF_MEMORY = 0.9  # of what is available at the start
_LEAST_MEMORY = 16 << 20  # bytes: with less nothing starts
_FACTORS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class Limit(NamedTuple):
    """One of setrlimit(2)'s: `name` as in ULIMITS, -1 for no limit."""

    name: str
    soft: int
    hard: int


class Held(NamedTuple):
    """A limit, its value in words, and what holds it."""

    name: str
    value: str
    holders: tuple[str, ...]


class Limits(NamedTuple):
    """`processes`: how many there may be at once, threads included, all users' of the sandbox together; 0 for any
    number. `memory`: bytes, all processes together; 0 for any number; `swap`: whether there may be more of it that is
    swapped out. `cpus`: processors' time that they may use, all together, 0 for any; `processors`: those to which they
    are bound where no control group counts that. `own`: what each process is held to. `running`: how many threads may
    run or be ready to at once before they take turns; 0 for any number.
    """

    processes: int
    memory: int
    swap: bool
    cpus: float
    processors: tuple[int, ...]
    own: tuple[Limit, ...]
    running: int


def decide(wanted: RunSpec, host: Host, identifier: str = "0") -> Limits:
    """The limits of a run; `identifier`: the sandbox's, hexadecimal. Raises SbError."""
    own = {"core": Limit("core", 0, 0)}  # what a crash writes is nobody's wish, and may be large
    for text in wanted.ulimits:
        limit = parse_ulimit(text)
        own[limit.name] = limit
    memory = parse_size(wanted.memory) if wanted.memory else _share(host.memory)
    cpus = parse_processors(wanted.cpus) if wanted.cpus else 0.0
    if cpus >= len(host.affinity):  # no more than there are, whoever counts
        cpus = 0.0
    processes = max(wanted.pids_limit or _processes(host), 0)
    running = max(_FEWEST_RUNNING, _RUNNING_EACH * host.processors)
    return Limits(
        processes=processes,
        memory=memory,
        swap=not wanted.memory,
        cpus=cpus,
        processors=_some(host.affinity, math.ceil(cpus), int(identifier, 16)) if cpus else (),
        own=tuple(own.values()),
        running=0 if 0 < processes <= running else running,
    )


def _processes(host: Host) -> int:
    """How many processes there may be by default: not all that the user may have, who has other things to do."""
    default = max(_FEWEST_PROCESSES, _PROCESSES_EACH * host.processors)
    return default if host.processes < 0 else max(1, min(default, int(_SHARE_OF_PROCESSES * host.processes)))


def _share(memory: int) -> int:
    """The part of what can be had that a sandbox gets, however little that is; 0 where nothing is known."""
    return max(int(memory * _SHARE_OF_MEMORY), _LEAST_MEMORY) if memory else 0


def _some(processors: tuple[int, ...], number: int, start: int) -> tuple[int, ...]:
    """So many of the processors, from some place on: not all sandboxes the same. None where that is all of them."""
    if number >= len(processors):
        return ()
    return tuple(sorted(processors[(start + each) % len(processors)] for each in range(number)))


def held(limits: Limits, grouped: Sequence[str], own: Sequence[str]) -> tuple[Held, ...]:
    """What holds each limit there is of the sandbox as a whole, but for its files: `grouped` are those that a control
    group does, `own` those that pid 1 does.
    """
    values = {"memory": limits.memory, "pids": limits.processes, "cpus": limits.cpus}
    found = []
    for name, value in values.items():
        holders = [GROUP] if name in grouped else []
        holders += [_BY_PID1[name]] if name in own else []
        holders += [WATCH] if name == "memory" and not holders else []
        if value:
            found.append(Held(name, f"{value:g}" if name == "cpus" else str(value), tuple(holders)))
    if limits.running:
        shared = "running" in grouped
        found.append(Held("running", "one share" if shared else str(limits.running), (GROUP if shared else TURNS,)))
    return (*found, *(Held(each.name, f"{each.soft}:{each.hard}", (SETRLIMIT,)) for each in limits.own))


def loose(limits: Sequence[Held]) -> tuple[str, ...]:
    """What the user should hear of limits that aren't held as they were asked for."""
    said = []
    for each in limits:
        if each.name == "cpus" and GROUP not in each.holders:
            whole = math.ceil(float(each.value))
            said.append(
                f"--cpus {each.value}: no control group can be had here, which could count time: "
                + (f"bound to {whole} processor{'s' * (whole > 1)}" if each.holders else "going on without")
            )
    return tuple(said)


def parse_ulimit(text: str) -> Limit:
    """`NAME=SOFT[:HARD]`; -1 for no limit; HARD is SOFT where it isn't given. Raises SbError."""
    name, _, numbers = text.partition("=")
    if name not in ULIMITS:
        raise SbError(f"--ulimit {text}", f"no limit is called {name}", did_you_mean(name, ULIMITS))
    soft, _, hard = numbers.partition(":")
    try:
        limit = Limit(name, int(soft), int(hard or soft))
    except ValueError:
        raise SbError(f"--ulimit {text}", "not numbers", f"--ulimit {name}=1024, or {name}=1024:4096") from None
    if min(limit.soft, limit.hard) < UNLIMITED or (
        limit.hard != UNLIMITED and not UNLIMITED < limit.soft <= limit.hard
    ):
        raise SbError(f"--ulimit {text}", "SOFT is above HARD", f"--ulimit {name}=SOFT:HARD")
    return limit


def parse_processors(text: str) -> float:
    """`--cpus`: how many processors' time, 0.01 at least. Raises SbError."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not _FEWEST_CPUS <= number < math.inf:
        raise SbError(f"--cpus {text}", "not a number of processors", "--cpus 2, or 0.5 for half of one's time")
    return number


def parse_size(text: str) -> int:
    """Bytes: a number with b, k, m, g or t behind it, in powers of 1024 as docker has them. Raises SbError."""
    digits, unit = text, "b"
    lowered = text.lower().removesuffix("ib") if text.lower().endswith("ib") else text.lower()
    if lowered[-1:] in _FACTORS:
        digits, unit = lowered[:-1], lowered[-1]
    if not (digits.isascii() and digits.replace(".", "", 1).isdecimal()) or float(digits) <= 0:
        raise SbError(f"not a size: {text}", hint="a number above 0 and k, m or g: 512m")
    return int(float(digits) * _FACTORS[unit])
