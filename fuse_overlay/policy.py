"""What was asked to be hidden or left as it is, and the pseudo file systems of the host, which aren't shown. Pure."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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

# File systems of which others answer: another machine, or a process. Who asks may have to wait, for ever at worst.
_REMOTE = frozenset(
    {
        "9p", "afs", "autofs", "beegfs", "ceph", "cifs", "coda", "fuse", "fuseblk", "gpfs", "lustre", "nfs", "nfs4",
        "orangefs", "panfs", "smb3", "virtiofs", "vboxsf", "wekafs",
    }
)  # fmt: skip

# Names that device file systems go by: in a container, /dev is a tmpfs with device nodes.
_DEVICE_DIRECTORY = b"/dev"


class Pattern(NamedTuple):
    """Hidden names in a directory: a path up to its last component, and that one, in which `*` stands for anything."""

    directory: bytes
    name: bytes


class HiddenPaths(NamedTuple):
    """Hidden paths by the lower that they lie in, each with the path that was asked for.

    `paths`: by a lower's number and the path relative to it. `patterns`: the same of those with a `*` in the last
    component, the directory's path relative to the lower. `names`: matches every last component that may be meant.
    """

    paths: dict[tuple[int, bytes], bytes]
    patterns: tuple[tuple[int, Pattern, bytes], ...]
    names: re.Pattern[bytes]

    def mean(self, number: int, path: bytes) -> bytes | None:
        """What was asked for, if this path, relative to the lower of this number, is meant by it."""
        if (asked := self.paths.get((number, path))) is not None:
            return asked
        directory, _, name = path.rpartition(b"/")
        for where, pattern, asked in self.patterns:
            if number == where and directory == pattern.directory and one_of([pattern.name]).fullmatch(name):
                return asked
        return None


def hidden_paths(lowers: Iterable[Lower], hidden: Mapping[bytes, bytes]) -> HiddenPaths:
    """Find for each hidden path the lowers that it lies beneath. `hidden`: the paths, each with the one that was asked
    for. Raises ValueError for a path that isn't absolute.
    """
    found: dict[tuple[int, bytes], bytes] = {}
    wanted = {os.path.normpath(path): asked for path, asked in hidden.items()}
    for path in wanted:
        if not path.startswith(b"/"):
            raise ValueError(f"{os.fsdecode(path)} is not an absolute path")
    for number, lower in enumerate(lowers):
        root = os.path.normpath(lower.path).rstrip(b"/") + b"/"
        found |= {(number, path[len(root) :]): asked for path, asked in wanted.items() if path.startswith(root)}
    return HiddenPaths(
        {place: asked for place, asked in found.items() if not is_pattern(place[1])},
        tuple((number, pattern_of(path), asked) for (number, path), asked in found.items() if is_pattern(path)),
        one_of(os.path.basename(path) for _, path in found),
    )


def is_pattern(path: bytes) -> bool:
    """Whether a hidden path means more than one name."""
    return b"*" in os.path.basename(path)


def pattern_of(path: bytes) -> Pattern:
    """The two parts of a path with a pattern as its last component."""
    return Pattern(*os.path.split(path))


def one_of(names: Iterable[bytes]) -> re.Pattern[bytes]:
    """What matches any of these names, in which `*` stands for anything."""
    return re.compile(b"|".join(b".*".join(map(re.escape, name.split(b"*"))) for name in sorted(set(names))), re.DOTALL)


class ReadOnlyPaths(NamedTuple):
    """What can't be changed in the merged tree, as paths relative to its root.

    `paths`: these themselves and all beneath. `above`: the directories on the way there, which can't be moved away or
    replaced, or another file would be at the path. `names`: the last components of both.
    """

    paths: frozenset[bytes]
    above: frozenset[bytes]
    names: frozenset[bytes]


def read_only_paths(paths: Iterable[bytes]) -> ReadOnlyPaths:
    """The paths that follow from these. Raises ValueError for one that isn't absolute."""
    fixed = set()
    for path in paths:
        if not path.startswith(b"/"):
            raise ValueError(f"{os.fsdecode(path)} is not an absolute path")
        fixed.add(os.path.normpath(path).lstrip(b"/"))
    parts = [path.split(b"/") for path in fixed]
    above = {b"/".join(each[:count]) for each in parts for count in range(1, len(each))}
    return ReadOnlyPaths(
        frozenset(fixed), frozenset(above), frozenset(os.path.basename(path) for path in fixed | above)
    )


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


def is_remote(kind: str) -> bool:
    """Whether a file system of this type may keep whoever asks it waiting."""
    return kind.partition(".")[0] in _REMOTE


def mountpoints(mountinfo: bytes) -> dict[bytes, str]:
    """The type of the file system at each mountpoint in a /proc/PID/mountinfo, by the last component of its path; of
    several, one that may not answer soon.
    """
    found: dict[bytes, str] = {}
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(b" - ")
        if separator and len(fields := left.split()) >= 5:
            name = re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), os.path.basename(fields[4]))
            kind = right.split()[0].decode("utf-8", "replace")
            if not is_remote(found.get(name, "")):
                found[name] = kind
    return found
