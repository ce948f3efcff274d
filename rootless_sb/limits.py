"""What a sandbox may use of the machine. Pure: from options to numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rootless_sb.errors import SbError, did_you_mean

if TYPE_CHECKING:
    from rootless_sb.host import Host
    from rootless_sb.spec import RunSpec

UNLIMITED = -1  # RLIM_INFINITY, as Python has it
# docker's and podman's names of setrlimit(2)'s limits.
ULIMITS = (
    *("as", "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio"),
    *("rttime", "sigpending", "stack"),
)
_FEWEST_PROCESSES = 4096
_PROCESSES_EACH = 32  # for each processor
_SHARE_OF_MEMORY = 0.9  # of what is available at the start
_FACTORS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class Limit(NamedTuple):
    """One of setrlimit(2)'s: `name` as in ULIMITS, -1 for no limit."""

    name: str
    soft: int
    hard: int


class Limits(NamedTuple):
    """`processes`: how many there may be at once, threads included, all users' of the sandbox together; 0 for any
    number. `memory`: bytes, all processes together; 0 for any number. `own`: what each process is held to.
    """

    processes: int
    memory: int
    own: tuple[Limit, ...]


def decide(wanted: RunSpec, host: Host) -> Limits:
    """The limits of a run. Raises SbError."""
    own = {"core": Limit("core", 0, 0)}  # what a crash writes is nobody's wish, and may be large
    for text in wanted.ulimits:
        limit = parse_ulimit(text)
        own[limit.name] = limit
    default = max(_FEWEST_PROCESSES, _PROCESSES_EACH * host.processors)
    memory = parse_size(wanted.memory) if wanted.memory else int(host.memory * _SHARE_OF_MEMORY)
    return Limits(max(wanted.pids_limit or default, 0), memory, tuple(own.values()))


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


def parse_size(text: str) -> int:
    """Bytes: a number with b, k, m, g or t behind it, in powers of 1024 as docker has them. Raises SbError."""
    digits, unit = text, "b"
    lowered = text.lower().removesuffix("ib") if text.lower().endswith("ib") else text.lower()
    if lowered[-1:] in _FACTORS:
        digits, unit = lowered[:-1], lowered[-1]
    if not (digits.isascii() and digits.replace(".", "", 1).isdecimal()) or float(digits) <= 0:
        raise SbError(f"not a size: {text}", hint="a number above 0 and k, m or g: 512m")
    return int(float(digits) * _FACTORS[unit])
