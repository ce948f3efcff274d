"""What the sandbox's root is made of besides the overlay: /proc, /sys, /dev, the names of the host. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless_sb.kernel.mounts import NODEV, NOEXEC, NOSUID, RDONLY
from rootless_sb.steps import (
    Attach,
    AttachFile,
    BindDevice,
    BringLoopbackUp,
    IfPossible,
    MakeDirectory,
    MakeReadOnly,
    MakeRootReadOnly,
    MakeSymlink,
    MakeTargetDirectory,
    Mask,
    MountAt,
    MountStage,
    OpenTerminal,
    PivotRoot,
    SetHostname,
    WriteFile,
    WriteSetting,
)

if TYPE_CHECKING:
    from rootless_sb.maps import MapLine
    from rootless_sb.steps import Step

_TERMINALS = 1024  # of the host's 4096 by default, of which 1024 are the host's own: kernel.pty.max and pty.reserve
_TTY_GROUP = 5  # what distributions and devpts agree on (Documentation/filesystems/devpts.rst)
# What podman makes read-only too. Some of it answers to uid 0 of the host, which `sb run` called by root maps.
_READ_ONLY = ("proc/asound", "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger")
# What podman masks: it tells of the machine, and of others on it.
_MASKED_PROC = (
    *("proc/acpi", "proc/interrupts", "proc/kcore", "proc/keys", "proc/latency_stats", "proc/sched_debug"),
    *("proc/scsi", "proc/timer_list", "proc/timer_stats"),
)
_MASKED_SYS = ("sys/firmware", "sys/fs/selinux", "sys/dev/block", "sys/devices/virtual/powercap")
# Container engines look for it (crun does, whatever it is told of cgroups).
_FOR_ENGINES = (IfPossible(MountAt("cgroup2", "sys/fs/cgroup", RDONLY | NOSUID | NODEV | NOEXEC)),)
_EMPTY_DIRECTORY, _EMPTY_FILE = "empty", "blank"
_LINKS = (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"), ("core", "/proc/kcore"))


def root_steps(
    *,
    own: tuple[str, ...],
    hostname: str,
    etc_hosts: bytes,
    devices: tuple[str, ...],
    gids: tuple[MapLine, ...],
    inotify: tuple[tuple[str, int], ...],
    pty: bool,
    nested: bool,
    volumes: tuple[Step, ...],
    read_only: bool,
    resolv_conf: bytes | None = None,
    directories: tuple[str, ...] = (),
) -> tuple[Step, ...]:
    """The steps of pid 1, in order. All that doesn't touch the overlay comes first: its server is still starting.

    `own` names the namespaces that the sandbox has for itself: what belongs to the host otherwise is left alone. Where
    a `nested` sandbox is to be made inside, nothing of /proc and /sys is covered: the kernel lets nobody mount a new
    one who doesn't see all of the old one (mount_too_revealing, fs/namespace.c). `resolv_conf`: what /etc/resolv.conf
    is to say, None to leave it alone; `inotify`: what the user may have of it; `directories`: what is made in the root.
    """
    return (
        MountStage(),
        MakeDirectory("proc"),
        MountAt("proc", "proc", NOSUID | NODEV | NOEXEC),
        *(network_steps(gids) if "net" in own else ()),
        *share_steps(inotify),
        *((SetHostname(hostname),) if "uts" in own else ()),
        MakeDirectory(_EMPTY_DIRECTORY),
        WriteFile(_EMPTY_FILE, b""),
        *(() if nested else (*map(MakeReadOnly, _READ_ONLY), *masks(_MASKED_PROC))),
        *device_steps(devices, gids),
        *((OpenTerminal(),) if pty else ()),
        MakeDirectory("sys"),
        IfPossible(MountAt("sysfs", "sys", RDONLY | NOSUID | NODEV | NOEXEC)),
        *(_FOR_ENGINES if nested else masks(_MASKED_SYS)),
        WriteFile("hostname", f"{hostname}\n".encode()),
        WriteFile("hosts", hosts_file(etc_hosts, hostname)),
        *((WriteFile("resolv.conf", resolv_conf),) if resolv_conf is not None else ()),
        *(IfPossible(MakeTargetDirectory(path)) for path in directories),
        Attach("proc", "/proc"),
        Attach("dev", "/dev"),
        IfPossible(Attach("sys", "/sys")),
        *name_file_steps(on_image=resolv_conf is not None),
        *volumes,
        *((MakeRootReadOnly(),) if read_only else ()),
        PivotRoot(),
    )


def name_file_steps(*, on_image: bool) -> tuple[Step, ...]:
    """Put the sandbox's names and addresses over those of its root. Not every root has them, or as files: an image gets
    them nevertheless, as docker has it; for what isn't one they would be changes, which `sb apply` brings to the host.
    """
    names = ("hostname", "hosts", *(("resolv.conf",) if on_image else ()))
    return tuple(IfPossible(AttachFile(name, f"/etc/{name}", make=on_image)) for name in names)


def masks(places: tuple[str, ...]) -> tuple[Step, ...]:
    """Cover these places with something empty."""
    return tuple(Mask(place, _EMPTY_DIRECTORY, _EMPTY_FILE) for place in places)


def network_steps(gids: tuple[MapLine, ...]) -> tuple[Step, ...]:
    """Loopback, and what root expects of a network of its own: low ports and ping.

    The network namespace belongs to A, where the target has no capability, so both are opened to everybody instead.
    """
    first_group = min(line.inside for line in gids)
    last_group = max(line.inside + line.size - 1 for line in gids)
    return (
        BringLoopbackUp(),
        WriteSetting("proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
        WriteSetting("proc/sys/net/ipv4/ping_group_range", f"{first_group} {last_group}"),
    )


def share_steps(inotify: tuple[tuple[str, int], ...]) -> tuple[Step, ...]:
    """Half of what the user may have of inotify(7): a sandbox's count as the user's own (kernel/ucount.c, inc_ucount),
    and the other half is left for the host and other sandboxes.
    """
    return tuple(IfPossible(WriteSetting(f"proc/sys/user/{name}", str(most // 2))) for name, most in inotify)


def device_steps(devices: tuple[str, ...], gids: tuple[MapLine, ...]) -> tuple[Step, ...]:
    """A /dev of the sandbox's own: the harmless nodes of the host, its own ptys, shared memory and queues."""
    has_tty_group = any(line.inside <= _TTY_GROUP < line.inside + line.size for line in gids)
    pts_options = f"newinstance,ptmxmode=0666,mode=0620,max={_TERMINALS}"
    pts_options += f",gid={_TTY_GROUP}" if has_tty_group else ""
    return (
        MakeDirectory("dev"),
        MountAt("tmpfs", "dev", NOSUID, "mode=0755,size=65536k"),
        *(BindDevice(f"/dev/{name}", f"dev/{name}") for name in devices),
        MakeDirectory("dev/pts"),
        MountAt("devpts", "dev/pts", NOSUID | NOEXEC, pts_options),
        MakeSymlink("dev/ptmx", "pts/ptmx"),
        MakeDirectory("dev/shm"),
        MountAt("tmpfs", "dev/shm", NOSUID | NODEV, "mode=1777"),
        MakeDirectory("dev/mqueue"),
        IfPossible(MountAt("mqueue", "dev/mqueue", NOSUID | NODEV | NOEXEC)),
        *(MakeSymlink(f"dev/{name}", text) for name, text in _LINKS),
    )


def hosts_file(etc_hosts: bytes, hostname: str) -> bytes:
    """The host's own table with one line more, so that the sandbox's name resolves (hosts(5), hostname(1) -f)."""
    table = etc_hosts if etc_hosts.endswith(b"\n") or not etc_hosts else etc_hosts + b"\n"
    return table + f"127.0.1.1\t{hostname}\n".encode()
