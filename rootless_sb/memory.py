"""Holds a sandbox to its memory: looks at what its processes use, the oftener the less is left.

What counts: the processes' shares of what they have in memory (Pss in proc_pid_smaps(5)), and what lies in the
sandbox's own file systems in memory. (RLIMIT_AS would count addresses, of which many programs reserve far more than
they use.)
"""

from __future__ import annotations

import os

_PAGE = os.sysconf("SC_PAGE_SIZE")
_QUICKEST, _SLOWEST = 0.1, 5.0  # seconds between two looks
_FASTEST_GROWTH = 2e9  # bytes a second that one sandbox may come to use, all its threads together
_SHARE_OF_TIME = 0.05  # of one processor, that the looks may take
_SHARED_MEMORY = "dev/shm"


def pause(left: int, cost: float) -> float:
    """Seconds to wait before the next look, with so many bytes left and after a look that took `cost` seconds. Pure."""
    return max(min(left / _FASTEST_GROWTH, _SLOWEST), cost / _SHARE_OF_TIME, _QUICKEST)


class MemoryWatch:
    """Looks at the processes of one sandbox, found in its own /proc."""

    __slots__ = ("_most", "_proc", "_root")

    def __init__(self, init: int, most: int) -> None:
        """`init`: the host's pid of the sandbox's pid 1, once it has entered its root. Raises OSError."""
        self._most = most
        self._root = os.open(f"/proc/{init}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._proc = os.open("proc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._root)

    def close(self) -> None:
        """Let go of the sandbox: its mounts can't end before."""
        os.close(self._proc)
        os.close(self._root)

    def left(self) -> int:
        """How many bytes the sandbox may use yet; below 0 when it uses too many."""
        pids = [name for name in os.listdir(self._proc) if name.isdecimal()]
        in_files = self._in_files()
        resident = sum(self._resident(pid) for pid in pids) + in_files
        if resident <= self._most:  # what is shared is counted for each process: it isn't less
            return self._most - resident
        shares = [self._share(pid) for pid in pids]
        share, shared = (sum(each[place] for each in shares) for place in (0, 1))
        return self._most - share - max(in_files - shared, 0)

    def _in_files(self) -> int:
        """Bytes in the sandbox's shared memory, mapped or not."""
        try:
            found = os.statvfs(f"/proc/self/fd/{self._root}/{_SHARED_MEMORY}")
        except OSError:  # covered by a volume that is gone, say
            return 0
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def _resident(self, pid: str) -> int:
        text = self._read(pid, "statm").split()
        return int(text[1]) * _PAGE if len(text) > 1 else 0

    def _share(self, pid: str) -> tuple[int, int]:
        """A process's share of memory, and how much of that is of files in memory, in bytes."""
        found = {"Pss": 0, "Pss_Shmem": 0}
        for line in self._read(pid, "smaps_rollup").splitlines():
            name, _, rest = line.partition(":")
            if name in found:
                found[name] = int(rest.split()[0]) * 1024
        return found["Pss"] or self._resident(pid), found["Pss_Shmem"]

    def _read(self, pid: str, name: str) -> str:
        try:
            descriptor = os.open(f"{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
            with open(descriptor, encoding="ascii") as file:
                return file.read()
        except OSError:  # it has just ended
            return ""
