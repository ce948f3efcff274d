"""What can be known of a process, and what it may not have of what this one has."""

from __future__ import annotations

import os

from fuse_overlay.tuples import NamedTuple

# Of proc_pid_status(5): what a process may do. All of it must be equal.
_POWERS = (
    "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
    "Seccomp_filters",
)  # fmt: skip
_NAMESPACES = ("user", "mnt", "net", "pid", "ipc", "uts", "cgroup", "time")
_FILES = ("cgroup", "attr/current", "sessionid", "loginuid")


class Process(NamedTuple):
    """What must be equal, by name, and of what can be adopted: the umask and the ignored signals as a bit mask."""

    fixed: dict[str, str]
    umask: int
    ignored: int


def look(pid: int | str) -> Process:
    """A process as /proc shows it. Raises OSError: it has ended, or isn't ours to see (PTRACE_MODE_READ)."""
    base = f"/proc/{pid}"
    with open(f"{base}/status", encoding="utf-8", errors="surrogateescape") as file:
        fields = status_fields(file.read())
    fixed = {name: fields.get(name, "") for name in _POWERS}
    for name in _NAMESPACES:
        try:
            fixed[f"namespace {name}"] = os.readlink(f"{base}/ns/{name}")
        except FileNotFoundError:  # the kernel has no such namespaces
            fixed[f"namespace {name}"] = ""
    root = os.stat(f"{base}/root/")
    fixed["root"] = f"{root.st_dev} {root.st_ino}"
    for name in _FILES:
        fixed[name] = _read(f"{base}/{name}")
    return Process(fixed, int(fields["Umask"], 8), int(fields["SigIgn"], 16))


def status_fields(text: str) -> dict[str, str]:
    """The lines of proc_pid_status(5) by their names. Pure."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def difference(own: Process, theirs: Process) -> str:
    """What the other process has not like this one; empty if all is equal. Pure."""
    return next((name for name, value in own.fixed.items() if theirs.fixed.get(name) != value), "")


def signals(mask: int) -> tuple[int, ...]:
    """The numbers of the signals in a mask of proc_pid_status(5). Pure."""
    return tuple(number for number in range(1, 65) if mask >> (number - 1) & 1)


def _read(path: str) -> str:
    """A file of /proc; empty where the kernel has none of its kind."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except PermissionError:
        raise
    except OSError:  # ENOENT; EINVAL, from a security module that is off
        return ""
