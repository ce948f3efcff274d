"""Has a sandbox with very many shares of the processors let a few processes run at a time, by turns.

Where no control group gives the sandbox one share, each of its sessions has one (autogroups, sched(7)), or without
these each of its threads. So a build in one session is nobody's harm, however wide; a bomb that calls setsid(2) each
time it forks is. Nice values and SCHED_IDLE would hold it only against what is in the same session, and the nice value
of a session nobody but an administrator can set as often as that takes (kernel/sched/autogroup.c). What is stopped
takes no share. So all are stopped together, and for a moment each time some are continued, in the order of their pids.

kill(2) with -1 reaches all processes of the caller's PID namespace at one moment: no child is forked past it. So it is
sent by a process in there, which the watcher forks when it is needed.
"""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from rootless_sb.kernel import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

_EACH = 8  # processes for each processor that have a turn together
_QUIET = 64  # processes, besides, that just wait for something
_TURN = 0.025  # seconds
_REST = 2  # times as long as a turn took nobody has one: the host has two thirds of the time to itself
_BETWEEN = 1.0  # seconds between two looks
_SHARE_OF_TIME = 0.05  # of one processor, that the looks may take
_AFTERWARDS = 10.0  # seconds until the next look when turns have just ended
_STATE, _SESSION, _FLAGS, _THREADS = 0, 3, 6, 17  # fields of proc_pid_stat(5) behind the name
_GONE = ["X", *["0"] * _THREADS]
_EXITING = 0x4  # PF_EXITING, include/linux/sched.h
_COUNT = 8  # bytes of a mark


def running(loadavg: str) -> int:
    """How many threads of the whole machine run or could, by the text of /proc/loadavg: proc_loadavg(5). Pure."""
    return int(loadavg.split()[3].partition("/")[0])


def are_by_session() -> bool:
    """Whether the processors are shared among sessions: sched(7), autogroups."""
    try:
        return _text("/proc/sys/kernel/sched_autogroup_enabled").strip() == "1"
    except FileNotFoundError:  # the kernel was built without
        return False


class Watch:
    """Looks whether turns are due in one sandbox, and has them taken. `due`: when to look next, as time.monotonic()."""

    __slots__ = ("_by_session", "_mark", "_most", "_pid", "_proc", "due")

    def __init__(self, init: int, most: int, mark: int) -> None:
        """`init`: the host's pid of the sandbox's pid 1, once it has entered its root; it was our first child in its
        PID namespace, so all others are in there too. `most`: threads that may run at once; `mark`: see `new_mark`.
        Raises OSError.
        """
        self._most = most
        self._by_session = are_by_session()
        self._mark = mark
        self._pid = 0
        self._proc = os.open(f"/proc/{init}/root/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self.due = 0.0

    def close(self) -> None:
        """Let go of the sandbox: its mounts can't end before."""
        os.close(self._proc)

    def look(self) -> None:
        """Have turns taken if too many run, and the sandbox has as many shares."""
        begin = time.thread_time()
        crowded = not self._pid and running(_loadavg()) > self._most and self._is_crowded()
        self.due = time.monotonic() + max(_BETWEEN, (time.thread_time() - begin) / _SHARE_OF_TIME)
        if crowded:
            role = partial(_take_turns, self._proc, self._most, self._mark)
            try:
                self._pid = processes.fork(role, {self._proc, self._mark})
            except OSError:  # the user has no more processes: perhaps at the next look
                return

    def failure(self) -> int | None:
        """Reap whoever has the turns taken; its wait status if they haven't come to their end, and the sandbox stands
        still, or if somebody has stopped it. Not if it died of the sandbox's own end, by that of pid 1.
        """
        if not self._pid:
            return None
        ended, wait_status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
        if not ended:
            return None
        if not os.WIFSTOPPED(wait_status):
            self._pid = 0
            self.due = time.monotonic() + _AFTERWARDS
        return wait_status if wait_status and not self._is_ending() else None

    def _is_ending(self) -> bool:
        """Whether the sandbox's pid 1 is, which kills all others in its PID namespace once it is marked so."""
        stat = _stat(self._proc, "1")
        return stat[_STATE] in ("Z", "X") or bool(int(stat[_FLAGS]) & _EXITING)

    def _is_crowded(self) -> bool:
        """Whether the sandbox wants more shares than it may have: who waits for something is in nobody's way, and goes
        on beside somebody else's bomb. (In as little time as can be: that we get none is what we are here for.)
        """
        shares: set[str] = set()
        with os.scandir(self._proc) as entries:
            for pid in (entry.name for entry in entries if entry.name.isdecimal()):
                stat = _stat(self._proc, pid)
                threads = _wanting(self._proc, pid, stat)
                if not self._by_session:
                    shares.update(islice(threads, self._most + 1))
                elif stat[_SESSION] not in shares and any(threads):
                    shares.add(stat[_SESSION])
                if len(shares) > self._most:
                    return True
        return False


def new_mark() -> int:
    """A descriptor of a file that tells whether turns are being taken, for whoever shares it: their number, times two,
    and one more while some are. Raises OSError.
    """
    mark = os.memfd_create("turns", os.MFD_CLOEXEC)
    _set(mark, 0)
    return mark


def was_stopped(pid: int, mark: int) -> bool:
    """Whether a child that was told of as stopped by SIGSTOP is so by somebody else's will than for a turn of others.

    The turns may be over by now, and have begun again. So its state counts as it was at a moment without any, which a
    mark that is the same before and after a look shows; all go on before it changes. What is stopped while some
    are taken goes on with their end, whoever has stopped it.
    """
    while True:
        before = _marked(mark)
        is_stopped = processes.is_stopped(pid)
        if before == _marked(mark):
            return is_stopped and not before % 2


def _set(mark: int, count: int) -> None:
    os.pwrite(mark, count.to_bytes(_COUNT, "little"), 0)


def _marked(mark: int) -> int:
    return int.from_bytes(os.pread(mark, _COUNT, 0), "little")


def _take_turns(proc: int, most: int, mark: int) -> int:
    """Have all processes of our PID namespace take turns until no more than half of `most` would run without."""
    processes.die_with_parent()
    processes.set_title("sb-turns")
    if os.getppid() != 0:  # our parent isn't in our PID namespace: then it is the sandbox's, and no other
        return 1
    _set(mark, _marked(mark) + 1)
    together = _EACH * len(os.sched_getaffinity(0))
    quiet: list[int] = []
    there = _send_all(signal.SIGSTOP)
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
    _set(mark, _marked(mark) + 1)
    return 0


def _turn(proc: int, pids: list[int]) -> tuple[bool, int, list[int]]:
    """Let these run for a moment; whether there are any processes yet, how many threads had wanted to run, and which of
    the processes just wait for something: they are in nobody's way, may be what others wait for, and have the next turn
    too.
    """
    begin = time.monotonic()
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:  # it was killed
            continue
    time.sleep(_TURN)
    during = running(_loadavg())
    quiet = [pid for pid in pids if _stat(proc, str(pid))[_STATE] == "S"]
    there = _send_all(signal.SIGSTOP)
    time.sleep((time.monotonic() - begin) * _REST)
    return there, during - running(_loadavg()), quiet[:_QUIET]


def _batches(proc: int, size: int, others: list[int]) -> Iterator[list[int]]:
    """The processes that are there now, so many at a time, but for pid 1, us and `others`; one batch at least."""
    passed = {1, os.getpid(), *others}
    pids = [int(pid) for pid in _pids(proc) if int(pid) not in passed]
    for begin in range(0, max(len(pids), 1), size):
        yield pids[begin : begin + size]


def _stat(proc: int, pid: str) -> list[str]:
    """What proc_pid_stat(5) says of a process behind its name; of one that is gone, that it is."""
    try:
        descriptor = os.open(f"{pid}/stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    except OSError:
        return _GONE
    try:
        return os.read(descriptor, 4096).decode("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return _GONE
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


def _wanting(proc: int, pid: str, stat: list[str]) -> Iterator[str]:
    """The threads of a process that run or could; `stat`: what is said of it, which is of its first thread."""
    if stat[_STATE] == "R":
        yield pid
    if stat[_THREADS] in ("0", "1"):
        return
    for thread in _threads(proc, pid):
        if thread != pid and _stat(proc, f"{pid}/task/{thread}")[_STATE] == "R":
            yield thread


def _threads(proc: int, pid: str) -> list[str]:
    try:
        directory = os.open(f"{pid}/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc)
    except OSError:  # it has just ended
        return []
    try:
        return os.listdir(directory)
    except OSError:
        return []
    finally:
        os.close(directory)


def _loadavg() -> str:
    return _text("/proc/loadavg")


def _text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()
