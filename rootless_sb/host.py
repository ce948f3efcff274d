"""What this host is and can do: facts for the plan, gathered once a run. Nothing is decided here."""

from __future__ import annotations

import os
import pwd

from fuse_overlay.tuples import NamedTuple
from rootless_sb import cgroups
from rootless_sb.kernel import landlock, processes


class SubordinateRange(NamedTuple):
    """Ids that /etc/subuid or /etc/subgid grant: `start` on the host, `size` of them."""

    start: int
    size: int


class Host(NamedTuple):
    """The caller and the machine. Paths are absolute, ids are the host's."""

    uid: int
    gid: int
    groups: tuple[int, ...]  # the supplementary ones
    user: str
    home: str
    directory: str | None
    environment: tuple[tuple[str, str], ...]
    umask: int
    parent: int
    ignored_signals: tuple[int, ...]
    no_new_privileges: bool
    newuidmap: str | None
    newgidmap: str | None
    subordinate_uids: tuple[SubordinateRange, ...]
    subordinate_gids: tuple[SubordinateRange, ...]
    etc_hosts: bytes
    resolv_conf: bytes
    devices: tuple[str, ...]
    machine: str
    release: str
    name: str
    processors: int
    affinity: tuple[int, ...]  # the processors that this process may run on
    memory: int  # bytes that can be had yet
    processes: int  # how many the user may have at once, threads counted too; -1 for any number
    inotify: tuple[tuple[str, int], ...]  # what one user may have of it: names and numbers in /proc/sys/user
    landlock: int  # the version of its interface, 0 for none
    unreadable: tuple[str, ...]  # of the files that sb can generate, those that are there and the user can't read


# The device nodes that a sandbox gets from the host, where the host has them.
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "fuse")

# What `generated` can make in place of the host's.
GENERATED = ("/etc/shadow", "/etc/gshadow")


def probe(parent: int = 0) -> Host:
    """Look at the host. `parent`: the process that called sb, if that isn't this one's."""
    uid, gid = os.geteuid(), os.getegid()
    user, home = _account(uid)
    umask = os.umask(0o022)
    os.umask(umask)
    return Host(
        uid=uid,
        gid=gid,
        groups=tuple(group for group in os.getgroups() if group != gid),
        user=user,
        home=home if not os.environ.get("HOME", "").startswith("/") else os.environ["HOME"],
        directory=_working_directory(),
        environment=tuple((name, value) for name, value in os.environ.items() if name),
        umask=umask,
        parent=parent or os.getppid(),
        ignored_signals=processes.ignored_signals(),
        no_new_privileges=processes.new_privileges_are_forbidden(),
        newuidmap=program("newuidmap"),
        newgidmap=program("newgidmap"),
        subordinate_uids=subordinate_ranges(_read("/etc/subuid"), user, uid),
        subordinate_gids=subordinate_ranges(_read("/etc/subgid"), user, uid),
        etc_hosts=_read("/etc/hosts"),
        resolv_conf=_read("/etc/resolv.conf"),
        devices=tuple(name for name in DEVICES if os.path.exists(f"/dev/{name}")),
        machine=os.uname().machine,
        release=os.uname().release,
        name=os.uname().nodename,
        processors=os.cpu_count() or 1,
        affinity=tuple(sorted(os.sched_getaffinity(0))),
        memory=_memory(),
        processes=processes.most(),
        inotify=_inotify(),
        landlock=landlock.version_or_none(),
        unreadable=tuple(path for path in GENERATED if os.path.exists(path) and not os.access(path, os.R_OK)),
    )


def _memory() -> int:
    """The bytes that can be had yet: of the machine's memory, and in all control groups that this process is in."""
    found = available_memory(_read("/proc/meminfo"))
    table = _text("/proc/self/cgroup")
    for hierarchy in (cgroups.UNIFIED, cgroups.OF_MEMORY):
        own = cgroups.own(table, hierarchy.controller)
        for path in (own, *cgroups.parents(own)) if own else ():
            group = f"{hierarchy.root}{path.rstrip('/')}"
            most = _text(f"{group}/{hierarchy.most}").strip()
            if most.isdecimal() and int(most) < found:
                left = cgroups.left(int(most), _text(f"{group}/{hierarchy.used}"), _text(f"{group}/memory.stat"))
                found = min(found, left)
    return found


def _inotify() -> tuple[tuple[str, int], ...]:
    """What a user of this user namespace may have of inotify(7): instances and watches."""
    names = ("max_inotify_instances", "max_inotify_watches")
    numbers = [_text(f"/proc/sys/user/{name}").strip() for name in names]
    return tuple((name, int(number)) for name, number in zip(names, numbers, strict=True) if number.isdecimal())


def available_memory(meminfo: bytes) -> int:
    """The bytes that /proc/meminfo says can be had without swapping: proc_meminfo(5). 0 where it doesn't say."""
    for line in meminfo.splitlines():
        name, _, rest = line.partition(b":")
        if name == b"MemAvailable":
            return int(rest.split()[0]) * 1024
    return 0


def subordinate_ranges(table: bytes, user: str, uid: int) -> tuple[SubordinateRange, ...]:
    """The ranges that `table` (in the format of subuid(5)) grants to the user, by name or by number."""
    owners = (os.fsencode(user), str(uid).encode())
    ranges = []
    for line in table.splitlines():
        owner, _, numbers = line.strip().partition(b":")
        start, _, size = numbers.partition(b":")
        if owner in owners and start.isdigit() and size.isdigit() and int(size) > 0:
            ranges.append(SubordinateRange(int(start), int(size)))
    return tuple(ranges)


def _account(uid: int) -> tuple[str, str]:
    """The user's name and home directory."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # an id without an account, as batch systems and containers have them
        return str(uid), "/"
    return entry.pw_name, entry.pw_dir


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


def program(name: str) -> str | None:
    """Where an administrative program lies: on the path, or where distributions put it (not all have sbin on it)."""
    for directory in (*os.environ.get("PATH", "").split(":"), "/usr/bin", "/usr/sbin", "/bin", "/sbin"):
        path = f"{directory}/{name}"
        if directory.startswith("/") and os.access(path, os.X_OK):
            return path
    return None


def _text(path: str) -> str:
    return os.fsdecode(_read(path))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError:  # absent or unreadable: this host has no such table
        return b""
