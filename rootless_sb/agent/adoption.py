"""Becoming like the caller in all that a process hands on to what it starts. What can't be is a reason to refuse."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from rootless_sb.agent import callers
from rootless_sb.kernel import descriptors, processes

if TYPE_CHECKING:
    from rootless_sb.agent.callers import Process
    from rootless_sb.agent.worker import Call

# Of /proc/PID: numbers that a process sets for itself by writing them there.
_NUMBERS = ("oom_score_adj", "coredump_filter")
# What Python ignores of itself.
_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def adopt(pid: int, caller: Process, call: Call, directory: int, passed: list[int]) -> None:
    """Become like the process `pid`, with its working `directory` and its descriptors, which are `passed` in the order
    of `call.numbers`. Raises OSError: this process may not have what that one has.
    """
    processes.copy_limits(pid)
    processes.copy_scheduling(pid)
    processes.set_timer_slack(call.timer_slack)
    for name in _NUMBERS:
        _copy_number(pid, name)
    os.fchdir(directory)
    os.close(directory)
    os.umask(caller.umask)
    processes.ignore(number for number in callers.signals(caller.ignored) if number not in _BY_PYTHON)
    os.environ.clear()
    os.environ.update(call.environment)
    descriptors.place(dict(zip(call.numbers, passed, strict=True)))
    for descriptor in passed:
        if descriptor not in call.numbers:
            os.close(descriptor)


def _copy_number(pid: int, name: str) -> None:
    with open(f"/proc/{pid}/{name}", encoding="ascii") as theirs, open(f"/proc/self/{name}", encoding="ascii") as ours:
        wanted, present = theirs.read(), ours.read()
    if wanted != present:
        # coredump_filter is shown without the 0x that it has to be written with: core(5).
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(f"0x{wanted}" if name == "coredump_filter" else wanted)
