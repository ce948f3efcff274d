"""When each phase of a sandbox's start was over: the clock that `--status-fd` and SB_TRACE=1 tell of.

Each process notes its own, with CLOCK_MONOTONIC, which is the machine's; what the others noted comes to the supervisor
with their messages. So the phases follow one another although different processes carry them out.
"""

from __future__ import annotations

import time
from itertools import pairwise

# What ends with each mark, in this order where nothing goes wrong.
PYTHON = "python"  # the interpreter's own start, as far as it took the processor's time
AGENT = "agent"  # if there is one: found, and become like the caller
OPTIONS = "options"  # modules, the command line and the configuration
HOST = "host"  # what this machine is and can do
PLAN = "plan"
DIRECTORY = "directory"  # the sandbox's own; before it the watcher was forked
NAMESPACES = "namespaces"  # and id maps
MOUNT = "mount"  # of /dev/fuse
STAGE = "stage"  # pid 1, and /proc, /dev and the like, prepared
FILES = "files"  # waiting for the overlay server's first answer
ROOT = "root"  # all mounts attached, pivot_root
COMMAND = "command"  # user namespace B, barriers, exec
# And at the end:
RUN = "run"  # the command itself
GONE = "gone"  # the overlay unmounted, the server ended
REMOVED = "removed"  # the layer

_marks: list[tuple[int, str]] = []
_inherited = 0


def begin(moment: int, spent: int) -> None:
    """Note that the program began at a moment of CLOCK_MONOTONIC, its interpreter having taken so much of the
    processor's time; nanoseconds both. What was noted before is forgotten.
    """
    _marks[:] = [(moment - spent, ""), (moment, PYTHON)]


def mark(phase: str) -> None:
    """Note that a phase is over."""
    _marks.append((time.monotonic_ns(), phase))


def mark_first(phase: str) -> None:
    """Note that a phase is over, if that isn't noted yet."""
    if all(known != phase for _, known in _marks):
        mark(phase)


def own() -> str:
    """What this process has noted itself, for `add`."""
    return " ".join(f"{phase}={moment}" for moment, phase in _marks[_inherited:])


def forked() -> None:
    """Leave what the parent has noted to it."""
    global _inherited  # noqa: PLW0603 - one list a process, as there is one clock
    _inherited = len(_marks)


def add(text: str) -> None:
    """Take over what another process has noted."""
    for item in text.split():
        phase, _, moment = item.partition("=")
        _marks.append((int(moment), phase))


def durations() -> list[tuple[str, float]]:
    """The phases so far, and how long each was, in milliseconds; what two processes did at once counts for the one that
    was ready later.
    """
    ordered = sorted(_marks)
    return [(phase, (moment - before) / 1e6) for (before, _), (moment, phase) in pairwise(ordered)]


def beginning() -> float:
    """When `begin` was called, in seconds of CLOCK_MONOTONIC."""
    return next((moment for moment, phase in _marks if phase == PYTHON), 0) / 1e9
