"""What the merged tree doesn't show of the host: pseudo file systems, and paths that were asked to be hidden."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuse_overlay.config import Lower

# File systems that are windows on the running kernel, not files: what is mounted there on the host is no business of
# the sandbox, and looking in may have effects. They show as empty directories.
PSEUDO = frozenset(
    {
        "bdev", "binder", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "cpuset", "debugfs", "devpts",
        "devtmpfs", "dlmfs", "efivarfs", "functionfs", "fuse.gvfsd-fuse", "fuse.portal", "fusectl", "hugetlbfs",
        "mqueue", "nfsd", "nsfs", "nullfs", "openpromfs", "pidfs", "proc", "pstore", "resctrl", "rpc_pipefs",
        "securityfs", "selinuxfs", "smackfs", "sysfs", "tracefs", "usbfs", "xenfs",
    }
)  # fmt: skip

# Names that device file systems go by: in a container, /dev is a tmpfs with device nodes.
_DEVICE_DIRECTORY = b"/dev"


class HiddenPaths(NamedTuple):
    """Hidden paths by the lower they lie in: for each lower's number the paths relative to it, and their last names."""

    paths: frozenset[tuple[int, bytes]]
    names: frozenset[bytes]


def hidden_paths(lowers: Iterable[Lower], hidden: Iterable[bytes]) -> HiddenPaths:
    """Find for each hidden path the lowers that it lies beneath. Raises ValueError for a path that isn't absolute."""
    paths = set()
    wanted = [os.path.normpath(path) for path in hidden]
    for path in wanted:
        if not path.startswith(b"/"):
            raise ValueError(f"{os.fsdecode(path)} is not an absolute path")
    for number, lower in enumerate(lowers):
        root = os.path.normpath(lower.path).rstrip(b"/") + b"/"
        paths |= {(number, path[len(root) :]) for path in wanted if path.startswith(root)}
    return HiddenPaths(frozenset(paths), frozenset(os.path.basename(path) for _, path in paths))


def file_systems(mountinfo: bytes) -> dict[int, str]:
    """The type of the file system of each device number in a /proc/PID/mountinfo (proc_pid_mountinfo(5)).

    A tmpfs on /dev counts as devtmpfs: both hold device nodes, and the sandbox has a /dev of its own.
    """
    kinds: dict[int, str] = {}
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(b" - ")
        fields = left.split()
        if not separator or len(fields) < 5:
            continue
        major, _, minor = fields[2].partition(b":")
        kind = right.split()[0].decode("utf-8", "replace")
        if fields[4] == _DEVICE_DIRECTORY:
            kind = "devtmpfs"
        kinds[os.makedev(int(major), int(minor))] = kind
    return kinds
