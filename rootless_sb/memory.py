"""Holds a sandbox to its memory: looks at what its processes use, the oftener the less is left.

What counts: the processes' shares of what they have in memory (Pss in proc_pid_smaps(5)), and what lies in the
sandbox's own file systems in memory, in files without a name and in System V's shared memory. What the kernel has for
the sandbox, buffers of sockets say, only a control group can count. (RLIMIT_AS would count addresses, of which many
programs reserve far more than they use.)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_BLOCK = 512  # bytes of a unit of st_blocks, inode(7)
_PAGE = os.sysconf("SC_PAGE_SIZE")
_QUICKEST, _SLOWEST = 0.1, 5.0  # seconds between two looks
_FASTEST_GROWTH = 2e9  # bytes a second that one sandbox may come to use, all its threads together
_BETWEEN = 16  # processes that are looked at between two questions whether there is something more urgent
_SHARE_OF_TIME = 0.05  # of one processor, that the looks may take


def pause(left: int, cost: float) -> float:
    """Seconds to wait before the next look, with so many bytes left and after a look that took `cost` seconds. Pure."""
    return max(min(left / _FASTEST_GROWTH, _SLOWEST), cost / _SHARE_OF_TIME, _QUICKEST)


def scratches(mountinfo: str) -> list[tuple[str, str]]:
    """The file systems in memory of a mount namespace, and where they are: proc_pid_mountinfo(5). Pure."""
    found = []
    for line in mountinfo.splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("tmpfs "):
            _, _, device, _, path = fields.split()[:5]
            found.append((device, _unescaped(path)))
    return found


def _unescaped(path: str) -> str:
    """A path of mountinfo, which writes blanks and backslashes as octal numbers."""
    first, *rest = path.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def segments(table: str) -> int:
    """The bytes in memory of System V's shared memory, by /proc/sysvipc/shm, whose columns have titles. Pure."""
    titles, *lines = [line.split() for line in table.splitlines()] or [[]]
    return sum(int(line[titles.index("rss")]) for line in lines) if "rss" in titles else 0


def shared_memory(meminfo: str) -> int:
    """The bytes of all files in memory, whatever they are for: Shmem in proc_meminfo(5). Pure."""
    for line in meminfo.splitlines():
        if line.startswith("Shmem:"):
            return int(line.split()[1]) * 1024
    return 0


class MemoryWatch:
    """Looks at the processes of one sandbox, found in its own /proc."""

    __slots__ = ("_most", "_own_ipc", "_proc", "_root", "_scratches")

    def __init__(self, init: int, most: int, *, own_ipc: bool) -> None:
        """`init`: the host's pid of the sandbox's pid 1, once it has entered its root; `own_ipc`: System V's shared
        memory is the sandbox's own, and we are in its namespace. Raises OSError.
        """
        self._most = most
        self._own_ipc = own_ipc
        self._root = os.open(f"/proc/{init}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._proc = os.open("proc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._root)
        self._scratches = list(self._open_scratches(init))

    def close(self) -> None:
        """Let go of the sandbox: its mounts can't end before."""
        for descriptor in (*self._scratches, self._proc, self._root):
            os.close(descriptor)

    def _open_scratches(self, init: int) -> Iterator[int]:
        """Descriptors of the sandbox's file systems in memory, each once; a volume may be one, but is the host's."""
        known = {device for device, _ in scratches(_text("/proc/self/mountinfo"))}
        for device, path in scratches(_text(f"/proc/{init}/mountinfo")):
            if device in known:
                continue
            try:
                descriptor = os.open(path.lstrip("/"), os.O_PATH | os.O_CLOEXEC, dir_fd=self._root)
            except OSError:  # something was mounted over it
                continue
            found = os.fstat(descriptor).st_dev
            if device == f"{os.major(found)}:{os.minor(found)}":
                known.add(device)
                yield descriptor
            else:  # the same: the path is of what covers it, a whole disk say
                os.close(descriptor)

    def left(self, interrupted: Callable[[], bool]) -> int:
        """How many bytes the sandbox may use yet; below 0 when it uses too many.

        Thousands of processes that don't rest take long to look at: `interrupted` is asked in between whether there is
        something more urgent. Raises InterruptedError then.
        """
        pids = [name for name in os.listdir(self._proc) if name.isdecimal()]
        in_files = self._in_files()
        # What is shared is counted for each process: it isn't less.
        left = self._most - sum(self._resident(pid) for pid in _unless(interrupted, pids)) - in_files
        # Files without a name can be as large as what the whole machine has in files in memory, and no larger.
        unnamed = max(shared_memory(_text("/proc/meminfo")) - in_files, 0)
        if unnamed <= left // 2:
            return left - unnamed
        in_files += self._in_unnamed_files(_unless(interrupted, pids))
        shares = [self._share(pid) for pid in _unless(interrupted, pids)]
        share, shared = (sum(each[place] for each in shares) for place in (0, 1))
        return self._most - share - max(in_files - shared, 0)

    def _in_files(self) -> int:
        """Bytes in the sandbox's file systems in memory and its shared memory, mapped or not."""
        found = [os.statvfs(f"/proc/self/fd/{scratch}") for scratch in self._scratches]
        in_segments = segments(_text("/proc/sysvipc/shm")) if self._own_ipc else 0
        return sum((each.f_blocks - each.f_bfree) * each.f_frsize for each in found) + in_segments

    def _in_unnamed_files(self, pids: Iterable[str]) -> int:
        """Bytes in memfd_create(2)'s files that the processes have open, mapped or not."""
        found = {}
        for pid in pids:
            for number in self._descriptors(pid):
                try:
                    if os.readlink(f"{pid}/fd/{number}", dir_fd=self._proc).startswith("/memfd:"):
                        st = os.stat(f"{pid}/fd/{number}", dir_fd=self._proc)
                        found[st.st_dev, st.st_ino] = st.st_blocks * _BLOCK
                except OSError:  # it has just been closed
                    continue
        return sum(found.values())

    def _descriptors(self, pid: str) -> list[str]:
        try:
            directory = os.open(f"{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._proc)
        except OSError:  # it has just ended
            return []
        try:
            return os.listdir(directory)
        finally:
            os.close(directory)

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


def _unless(interrupted: Callable[[], bool], pids: Sequence[str]) -> Iterator[str]:
    for number, pid in enumerate(pids):
        if number % _BETWEEN == 0 and interrupted():
            raise InterruptedError
        yield pid


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:  # it has just ended, or the kernel has no such thing
        return ""
