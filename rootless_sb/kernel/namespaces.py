"""Namespaces and the id maps of user namespaces: unshare(2), setns(2), user_namespaces(7)."""

from __future__ import annotations

import os
import resource

from rootless_sb.kernel import libc

# <linux/sched.h>
NEWNS = 0x00020000
NEWCGROUP = 0x02000000
NEWUTS = 0x04000000
NEWIPC = 0x08000000
NEWUSER = 0x10000000
NEWPID = 0x20000000
NEWNET = 0x40000000

# What bounds a user namespace by the limits of whoever makes it: create_user_ns (kernel/user_namespace.c).
_BOUNDS = (resource.RLIMIT_NPROC, resource.RLIMIT_MSGQUEUE, resource.RLIMIT_SIGPENDING, resource.RLIMIT_MEMLOCK)

# The kinds besides the user namespace, in the order in which they are made.
KINDS = {
    "mount": NEWNS,
    "net": NEWNET,
    "uts": NEWUTS,
    "ipc": NEWIPC,
    "cgroup": NEWCGROUP,
    "pid": NEWPID,
}


def unshare(flags: int) -> None:
    """Move the calling process (for NEWPID: its children) into new namespaces. Raises OSError."""
    libc.call("unshare", flags)


def setns(descriptor: int, kind: int) -> None:
    """Enter the namespace that `descriptor` refers to; `kind` is one of the flags above. Raises OSError."""
    libc.call("setns", descriptor, kind)


def bounds() -> tuple[int, ...]:
    """What a user namespace that this process made now would be bounded by."""
    return tuple(resource.getrlimit(kind)[0] for kind in _BOUNDS)


def write_id_map(process_directory: int, name: str, text: str) -> None:
    """Write `uid_map`, `gid_map` or `setgroups` of the process whose /proc/PID is `process_directory`. Raises OSError.

    The kernel takes a map in one write(2) only, hence no buffered file.
    """
    descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=process_directory)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def has_id_map(process_directory: int, name: str) -> bool:
    """Whether `uid_map` or `gid_map` of a process has been written already. Raises OSError."""
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=process_directory)
    try:
        return bool(os.read(descriptor, 1))
    finally:
        os.close(descriptor)


def set_hostname(name: str) -> None:
    """Set the host name of the calling process's UTS namespace. Raises OSError."""
    encoded = os.fsencode(name)
    libc.call("sethostname", encoded, len(encoded))
