"""File descriptors: what the caller's are, which of them share an open file, and closing all others."""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import resource
import stat
import termios
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.kernel import libc

if TYPE_CHECKING:
    from collections.abc import Iterable

_KCMP_FILE = 0  # <linux/kcmp.h>
_SYS_KCMP = {"x86_64": 312, "aarch64": 272}.get(os.uname().machine, -1)
_SYS_CLOSE_RANGE = 436  # the same on every architecture
_LAST = 0xFFFFFFFF
_MANY = 1 << 16
_NULL_DEVICE = os.makedev(1, 3)  # Documentation/admin-guide/devices.txt

TERMINAL = "terminal"
NULL = "null"
PIPE = "pipe"
FILE = "file"
DIRECTORY = "directory"
OTHER = "other"  # a pipe that has a name, or a device
NAMELESS = "nameless"  # of a file that no file system has: an eventfd, a process

READ, WRITE, BOTH, NEITHER = "read", "write", "both", "neither"
_ACCESS = {os.O_RDONLY: READ, os.O_WRONLY: WRITE, os.O_RDWR: BOTH}

STANDARD = (0, 1, 2)


class Descriptor(NamedTuple):
    """An open descriptor: number, kind (one of the words above), the lowest number that shares its open file, and what
    it is open for (so, too).
    """

    number: int
    kind: str
    shared_with: int
    access: str = BOTH


def describe(numbers: Iterable[int] = STANDARD) -> tuple[Descriptor, ...]:
    """What the caller has at these numbers; what isn't open, or was opened by this program itself, is left out."""
    found: list[Descriptor] = []
    for number in numbers:
        try:
            if not os.get_inheritable(number):  # what survived execve(2) is inheritable, what Python opens isn't
                continue
            kind, flags = _kind(number), fcntl.fcntl(number, fcntl.F_GETFL)
        except (OSError, OverflowError):  # EBADF is the only error that these have for a descriptor
            continue
        access = NEITHER if flags & os.O_PATH else _ACCESS[flags & os.O_ACCMODE]
        same = (other.number for other in found if _share_open_file(other.number, number))
        found.append(Descriptor(number, kind, next(same, number), access))
    return tuple(found)


def _kind(number: int) -> str:
    status = os.fstat(number)
    if not stat.S_IFMT(status.st_mode):
        return NAMELESS
    if stat.S_ISDIR(status.st_mode):
        return DIRECTORY
    if stat.S_ISREG(status.st_mode):
        return FILE
    if stat.S_ISSOCK(status.st_mode) or (stat.S_ISFIFO(status.st_mode) and _is_anonymous(status)):
        return PIPE
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL_DEVICE:
        return NULL
    return TERMINAL if os.isatty(number) else OTHER


def _is_anonymous(status: os.stat_result) -> bool:
    """Whether a pipe has no name: one that has is a file of the host's, whose mode could be changed through it."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        return os.fstat(reader).st_dev == status.st_dev
    finally:
        os.close(reader)
        os.close(writer)


def _share_open_file(one: int, other: int) -> bool:
    """Whether two descriptors are duplicates; kcmp(2), or where that is forbidden, whether they look alike."""
    own = os.getpid()
    try:
        return libc.syscall(_SYS_KCMP, own, own, _KCMP_FILE, one, other) == 0
    except OSError:  # EPERM or ENOSYS under some seccomp filters: the same file with the same flags will do
        return os.path.sameopenfile(one, other) and (
            fcntl.fcntl(one, fcntl.F_GETFL) == fcntl.fcntl(other, fcntl.F_GETFL)
        )


def close_others(keep: set[int]) -> None:
    """Close every descriptor that is not in `keep`. Looks at no file: /proc may be the sandbox's by now."""
    following = 0
    for number in sorted(keep):
        _close_range(following, number - 1)
        following = number + 1
    _close_range(following, _LAST)


def _close_range(first: int, last: int) -> None:
    if last < first:
        return
    try:
        libc.syscall(_SYS_CLOSE_RANGE, first, ctypes.c_uint(last), 0)
    except OSError:  # before Linux 5.9; all that were opened under the present limit lie below it
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        os.closerange(first, min(last + 1, limit if 0 < limit < _MANY else _MANY))


def require(count: int) -> None:
    """See whether so many more descriptors can be opened. Raises OSError (EMFILE) if not."""
    opened: list[int] = []
    try:
        while len(opened) < count:
            opened.append(open_null())
    finally:
        for descriptor in opened:
            os.close(descriptor)


def open_null() -> int:
    """A descriptor of /dev/null."""
    return os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)


def shut(numbers: tuple[int, ...], null: int) -> None:
    """Put /dev/null, which `null` is a descriptor of, in the place of some of 0, 1 and 2."""
    for number in numbers:
        os.dup2(null, number)


def place(targets: dict[int, int]) -> None:
    """Duplicate descriptors onto fixed numbers: `targets` maps the wanted number to the source. All are inheritable.

    Sources are first moved above every wanted number, so that no wanted number overwrites a source.
    """
    above = max(targets) + 1
    moved = {number: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, above) for number, source in targets.items()}
    for number, source in moved.items():
        os.dup2(source, number, inheritable=True)
        os.close(source)


def move_above(descriptor: int, number: int) -> int:
    """The same open file at a descriptor above `number`, in place of this one. Raises OSError."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, number + 1)
    os.close(descriptor)
    return moved


def unread_bytes(pipe: int) -> int:
    """How many bytes wait in a pipe (FIONREAD, pipe(7))."""
    answer = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, answer)
    return answer[0]
