"""Tries things out in a process of their own, to see what this host allows. Probes, not version comparisons."""

from __future__ import annotations

import ctypes
import errno
import os
import select
from typing import TYPE_CHECKING

from rootless_sb.kernel import mounts, namespaces, processes

if TYPE_CHECKING:
    from collections.abc import Callable


def attempt(action: Callable[[], object]) -> str:
    """Run `action` in a forked process; the reason for which it failed, empty if it didn't."""

    return Trial(action).failure()


def _try(action: Callable[[], object]) -> int:
    try:
        action()
    except OSError as error:
        return error.errno or errno.EIO
    return 0


class Trial:
    """An `attempt` that goes on while its caller does something else."""

    __slots__ = ("_pid",)

    def __init__(self, action: Callable[[], object]) -> None:
        self._pid = processes.fork(lambda: _try(action), set())

    def failure(self) -> str:
        """Wait for it; the reason for which it failed, empty if it didn't."""
        _, status = os.waitpid(self._pid, 0)
        code = processes.exit_code(status)
        return os.strerror(code) if code else ""


def make_namespaces(flags: int) -> None:
    """Enter a user namespace and then others of these kinds."""
    namespaces.unshare(namespaces.NEWUSER)
    if flags:
        namespaces.unshare(flags)


def nest() -> None:
    """Enter a user namespace within one, with the one id mapped."""
    uid, gid = os.geteuid(), os.getegid()
    namespaces.unshare(namespaces.NEWUSER)
    own = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    namespaces.write_id_map(own, "setgroups", "deny")
    namespaces.write_id_map(own, "uid_map", f"0 {uid} 1\n")
    namespaces.write_id_map(own, "gid_map", f"0 {gid} 1\n")
    namespaces.unshare(namespaces.NEWUSER)


def mount_something() -> None:
    """Mount a tmpfs in a user namespace: AppArmor on Ubuntu allows the namespace and then no mount."""
    make_namespaces(namespaces.NEWNS)
    mounts.mount(None, "/", None, mounts.REC | mounts.PRIVATE)
    mounts.mount("tmpfs", "/tmp", "tmpfs", 0)


def open_fuse() -> None:
    """Open /dev/fuse as the sandbox will."""
    os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))


def count_processes_apart() -> None:
    """Have two processes in a user namespace where two are allowed, although the user has more elsewhere.

    EAGAIN before Linux 5.14, which counts all processes of the user on the machine (kernel/ucount.c).
    """
    namespaces.unshare(namespaces.NEWUSER)
    processes.limit_number(2)
    os.waitpid(processes.fork(lambda: 0, set()), 0)


def load_libfuse() -> None:
    """Load the library that pyfuse3 is linked with."""
    for name in ("libfuse3.so.3", "libfuse3.so.4"):  # 4: libfuse 3.17 and newer
        try:
            ctypes.CDLL(name)
        except OSError:  # without errno: the dynamic loader's
            continue
        return
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))


def forbid_new_privileges() -> None:
    """Set no_new_privs."""
    processes.forbid_new_privileges()


def pidfd() -> None:
    """Open a descriptor of a process and poll it."""
    descriptor = os.pidfd_open(os.getpid())
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll(0)


def user_xattr(directory: str) -> None:
    """Set a user.* xattr on a file made in `directory` for it."""
    descriptor = os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    os.setxattr(descriptor, "user.sb.probe", b"1")
