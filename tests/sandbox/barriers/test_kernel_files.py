"""Attack: what /proc and /sys tell of the host, and let one set. Barriers: masks, read-only mounts, B."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.sandbox.barriers.attackers import outside

if TYPE_CHECKING:
    from tests.sandbox.barriers.attackers import Attacker

MASKED = (
    *("/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug"),
    *("/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware", "/sys/fs/selinux", "/sys/dev/block"),
    "/sys/devices/virtual/powercap",
)
LOOK = f"""
    def look(path):
        try:
            return "something" if (os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1)) else "nothing"
        except PermissionError:
            return "refused"
    for path in {MASKED!r}:
        if os.path.lexists(path):
            print(path, look(path))
    """


def test_masked_paths_hold_nothing(attacker: Attacker) -> None:
    """What podman masks is there and empty; outside some of it isn't, nor with --nested."""
    inside = dict(line.split() for line in attacker(LOOK))
    assert {"nothing"} == set(inside.values())
    for control in (outside(LOOK), attacker(LOOK, "--nested")):
        there = dict(line.split() for line in control)
        assert set(there) == set(inside)
        assert "something" in there.values()


def test_masks_cannot_be_written_or_removed(attacker: Attacker) -> None:
    """A mask is read-only, and the thing in its place can't be removed; with --nested there is none, and what is in its
    place is the host's root's."""
    script = """
        print(outcome(open, "/proc/interrupts", "w"), outcome(os.mkdir, "/sys/firmware/x"))
        print(outcome(os.rmdir, "/sys/firmware") != "done", open("/proc/uptime").read() != "")
        """
    assert ["EROFS EROFS", "True True"] == attacker(script)
    assert attacker(script, "--nested")[0].startswith("EACCES ")


def test_settings_of_the_host(attacker: Attacker) -> None:
    """core_pattern, sysrq and the like can't be written, and nothing in /proc/sys; a process's own settings can."""
    script = """
        for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger",
                     "/proc/sys/net/ipv4/ip_forward", "/proc/irq/default_smp_affinity"):
            if os.path.exists(path):
                print(outcome(os.open, path, os.O_WRONLY))
        print(outcome(os.open, "/proc/self/oom_score_adj", os.O_WRONLY))
        """
    *refused, own = attacker(script)
    assert refused
    assert {"EROFS", "EACCES"} >= set(refused)  # EACCES: the host's root's, for others
    assert "done" == own


def test_settings_are_read_only(attacker: Attacker) -> None:
    """Whoever's they are: the mounts that they lie on are read-only; that of a process's own isn't, nor any, nested."""
    script = """
        for path in ("/proc/sys/kernel", "/proc/irq", "/proc/self"):
            print(bool(os.statvfs(path).f_flag & os.ST_RDONLY))
        """
    assert ["True", "True", "False"] == attacker(script)
    assert ["False"] * 3 == attacker(script, "--nested")


def test_no_control_of_fuse(attacker: Attacker) -> None:
    """The files by which FUSE connections are aborted aren't there and can't be mounted; a tmpfs can, with --nested."""
    script = """
        def mount(kind):
            if libc.mount(kind, b"/mnt", kind, ctypes.c_ulong(0), None) == -1:
                raise OSError(ctypes.get_errno(), "")
        where = "/sys/fs/fuse/connections"
        print(os.listdir(where) if os.path.isdir(where) else [], outcome(mount, b"fusectl"), outcome(mount, b"tmpfs"))
        """
    assert ["[] EPERM EPERM"] == attacker(script)
    assert ["[] EPERM done"] == attacker(script, "--nested")


def test_device_files_of_the_machine(attacker: Attacker) -> None:
    """Neither memory nor disks nor /dev/fuse can be opened: there are no such files in /dev."""
    names = ("mem", "kmsg", "port", "fuse", "net", "kvm", "sda", "vda", "loop-control", "console", "uinput")
    script = f"print(*(name for name in {names} if os.path.lexists(f'/dev/{{name}}')))"
    assert [""] == attacker(script)
    assert os.path.exists("/dev/fuse"), "the control: outside there is one"
    assert ["fuse"] == attacker(script, "--nested")
