"""Has a sandbox in which very many processes want to run at once let a few of them run at a time, by turns.

Where no control group makes the sandbox one of those that share the processors, each of its processes is. Nice values
and SCHED_IDLE would hold them only against what is in the same session: every setsid(2) makes a group with a full share
of its own (autogroups, sched(7)), whose nice value nobody but an administrator can set as often as that takes
(kernel/sched/autogroup.c). What is stopped takes no share. So all are stopped together, and for a moment each time some
are continued, in the order of their pids, whoever they are and whatever session they are in.

kill(2) with -1 reaches all processes of the caller's PID namespace at one moment: no child is forked past it. So it is
sent by a process in there, which the watcher forks when it is needed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

from rootless_sb.kernel import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

_EACH = 8  # processes for each processor that have a turn together
_QUIET = 64  # processes, besides, that just wait for something
_TURN = 0.025  # seconds
_REST = 2  # times as long as a turn took nobody has one: the host has two thirds of the time to itself
_BETWEEN = 1.0  # seconds between two looks
_PATIENCE, _A_MOMENT = 0.5, 0.001  # seconds, for one process to stop
_AFTERWARDS = 10.0  # seconds until the next look when turns have just ended
_OTHER_LINKS = 2  # of a directory, besides those that lead to what is in it


def running(loadavg: str) -> int:
    """How many threads of the whole machine run or could, by the text of /proc/loadavg: proc_loadavg(5). Pure."""
    return int(loadavg.split()[3].partition("/")[0])


class Watch:
    """Looks whether turns are due in one sandbox, and has them taken. `due`: when to look next, as time.monotonic()."""

    __slots__ = ("_mark", "_most", "_pid", "_proc", "due")

    def __init__(self, init: int, most: int, mark: int) -> None:
        """`init`: the host's pid of the sandbox's pid 1, once it has entered its root; it was our first child in its
        PID namespace, so all others are in there too. `most`: threads that may run at once; `mark`: see `are_taken`.
        Raises OSError.
        """
        self._most = most
        self._mark = mark
        self._pid = 0
        self._proc = os.open(f"/proc/{init}/root/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self.due = 0.0

    def close(self) -> None:
        """Let go of the sandbox: its mounts can't end before."""
        os.close(self._proc)

    def look(self) -> None:
        """Have turns taken if too many run, and many of these can only be the sandbox's."""
        self.due = time.monotonic() + _BETWEEN
        if not self._pid and running(_loadavg()) > self._most and self._is_crowded():
            role = partial(_take_turns, self._proc, self._most, self._mark)
            try:
                self._pid = processes.fork(role, {self._proc, self._mark})
            except OSError:  # the user has no more processes: perhaps at the next look
                return

    def is_well(self) -> bool:
        """Reap whoever has the turns taken; False if they haven't come to their end, and the sandbox stands still."""
        if not self._pid:
            return True
        ended, wait_status = os.waitpid(self._pid, os.WNOHANG)
        if ended:
            self._pid = 0
            self.due = time.monotonic() + _AFTERWARDS
        return not ended or wait_status == 0

    def _is_crowded(self) -> bool:
        """Whether the sandbox has more threads than may run at once. (In as little time as can be: that we get none is
        what we are here for.)
        """
        pids = _pids(self._proc)
        return len(pids) > self._most or sum(_threads(self._proc, pid) for pid in pids) > self._most


def are_taken(mark: int) -> bool:
    """Whether turns are being taken: who stops or goes on then wasn't told so by anybody in the sandbox. `mark` is an
    eventfd(2) that whoever has them taken raises for as long.
    """
    return processes.is_readable(mark)


def _take_turns(proc: int, most: int, mark: int) -> int:
    """Have all processes of our PID namespace take turns until no more than half of `most` would run without."""
    processes.die_with_parent()
    processes.set_title("sb-turns")
    if os.getppid() != 0:  # our parent isn't in our PID namespace: then it is the sandbox's, and no other
        return 1
    os.eventfd_write(mark, 1)
    together = _EACH * len(os.sched_getaffinity(0))
    quiet: list[int] = []
    there = _stop(proc)
    while there:
        wanted = 0
        for pids in _batches(proc, together, quiet):
            there, ready, quiet = _turn(proc, sorted({*pids, *quiet}))
            wanted += ready
            if not there:
                break
        if wanted <= most // 2:
            break
    _send_all(signal.SIGCONT)
    os.eventfd_read(mark)
    return 0


def _turn(proc: int, pids: list[int]) -> tuple[bool, int, list[int]]:
    """Let these run for a moment; whether there are any processes yet, how many threads had wanted to run, and which of
    the processes just wait for something: they are in nobody's way, may be what others wait for, and have the next turn
    too.
    """
    begin = time.monotonic()
    for pid in reversed(pids):  # children first: a shell that goes on doesn't find its job stopped
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:  # it was killed
            continue
    time.sleep(_TURN)
    during = running(_loadavg())
    quiet = [pid for pid in pids if _state(proc, pid) == "S"]
    there = _stop(proc)
    time.sleep((time.monotonic() - begin) * _REST)
    return there, during - running(_loadavg()), quiet[:_QUIET]


def _batches(proc: int, size: int, others: list[int]) -> Iterator[list[int]]:
    """The processes that are there now, so many at a time, but for pid 1, us and `others`; one batch at least."""
    passed = {1, os.getpid(), *others}
    pids = [int(pid) for pid in _pids(proc) if int(pid) not in passed]
    for begin in range(0, max(len(pids), 1), size):
        yield pids[begin : begin + size]


def _stop(proc: int) -> bool:
    """Stop all; whether there is anybody. The oldest, which may be a shell that looks after jobs, mostly has stopped
    before its children do: wait(2) looks at children first and at signals afterwards.
    """
    oldest = next((int(pid) for pid in _pids(proc) if int(pid) not in (1, os.getpid())), 0)
    if oldest:
        with contextlib.suppress(ProcessLookupError):  # it was killed
            os.kill(oldest, signal.SIGSTOP)
    latest = time.monotonic() + _PATIENCE
    while oldest and _state(proc, oldest) in "RSD" and time.monotonic() < latest:
        time.sleep(_A_MOMENT)
    return _send_all(signal.SIGSTOP)


def _state(proc: int, pid: int) -> str:
    """A process's state, proc_pid_stat(5); X when it is gone."""
    try:
        descriptor = os.open(f"{pid}/stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    except OSError:
        return "X"
    try:
        return os.read(descriptor, 200).decode("ascii", "replace").rpartition(")")[2].split()[0]
    except OSError:
        return "X"
    finally:
        os.close(descriptor)


def _send_all(number: int) -> bool:
    """Send a signal to all of our PID namespace but pid 1 and ourselves; whether there is anybody."""
    try:
        os.kill(-1, number)
    except ProcessLookupError:
        return False
    return True


def _pids(proc: int) -> list[str]:
    return [name for name in os.listdir(proc) if name.isdecimal()]


def _threads(proc: int, pid: str) -> int:
    try:
        return os.stat(f"{pid}/task", dir_fd=proc).st_nlink - _OTHER_LINKS
    except OSError:  # it has just ended
        return 0


def _loadavg() -> str:
    descriptor = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 100).decode()
    finally:
        os.close(descriptor)
