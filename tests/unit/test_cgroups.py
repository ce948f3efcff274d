"""Control groups: paths, files, and how systemd is asked for one."""

from __future__ import annotations

import struct

import pytest

from rootless_sb import cgroups, dbus, limits
from rootless_sb.spec import RunSpec
from tests.unit.hosts import HOST

UNIFIED = "0::/user.slice/user-1000.slice/session-3.scope\n"
OLDER = "5:cpu,cpuacct:/jobs\n4:memory:/slurm/job_7\n1:name=systemd:/init\n0::/\n"


def test_where_a_process_is() -> None:
    """Its path in the unified hierarchy, or in one controller's."""
    assert "/user.slice/user-1000.slice/session-3.scope" == cgroups.own(UNIFIED)
    assert ("/", "/slurm/job_7", "/jobs") == tuple(cgroups.own(OLDER, name) for name in ("", "memory", "cpuacct"))
    assert None is cgroups.own("4:memory:/\n")


def test_the_groups_around_it() -> None:
    """From the nearest to the root."""
    assert ("/a/b", "/a", "") == cgroups.parents("/a/b/c")
    assert ("",) == cgroups.parents("/a")


def test_what_a_batch_system_has_placed() -> None:
    """A login's process may go elsewhere, at its user's wish; a job's stays, and so does another user's."""
    assert cgroups.is_a_logins("/user.slice/user-1000.slice/session-3.scope", 1000)
    assert not cgroups.is_a_logins("/user.slice/user-1000.slice/session-3.scope", 100)
    assert not cgroups.is_a_logins("/system.slice/slurmstepd.scope/job_7/step_0/user/task_0", 1000)


def test_what_is_written() -> None:
    """Each limit in its file's words and in systemd's; swap too counts for a limit of memory that was asked for."""
    decided = limits.decide(RunSpec(memory="1m", cpus="0.5", pids_limit=10), HOST)
    expected = {"memory.max": "1048576", "memory.swap.max": "0", "pids.max": "74", "cpu.max": "50000 100000"}
    assert expected == cgroups.settings(decided)
    assert (("MemoryMax", 1 << 20), ("MemorySwapMax", 0), ("TasksMax", 74), ("CPUQuotaPerSecUSec", 500_000)) == (
        cgroups.properties(decided)
    )
    assert ["memory.max", "pids.max"] == list(cgroups.settings(limits.decide(RunSpec(), HOST)))


def test_what_is_held() -> None:
    """What its file says is limited; memory only if all processes end together."""
    values = {"memory.max": "100", "memory.oom.group": "1", "pids.max": "max", "cpu.max": "50000 100000"}
    assert ("memory", "cpus") == cgroups.held(values)
    assert ("cpus",) == cgroups.held({**values, "memory.oom.group": "0"})
    assert () == cgroups.held({"cpu.max": "max 100000"})
    assert ("running",) == cgroups.held({"cpu.max": "max 100000", "cpu.weight": "100"})


def test_what_memory_is_left() -> None:
    """What a group may hold, less what it holds, and what is of files can be had back."""
    assert 600 == cgroups.left(1000, "700", "anon 400\nactive_file 100\ninactive_file 200\n")
    assert 1 == cgroups.left(1000, "1100", "")


def test_a_call() -> None:
    """A message has the length that it says, its body begins at a multiple of 8, and values lie at their alignments."""
    call = dbus.Call("/a", "b.c", "D", ("s", "a(sv)"), ("x", [("n", dbus.Variant("t", 7))]))
    message = dbus.encode(call, 5)
    body_size, serial = struct.unpack("<II", message[4:12])
    assert (len(message), 5) == (dbus.length(message[: dbus.FIXED]), serial)
    body = message[-body_size:]
    assert 0 == (len(message) - body_size) % 8
    # "x"; the array's length; at 16 the struct: "n", the type "t", at a multiple of 8 the number
    assert struct.pack("<I", 1) + b"x\0" == body[:6]
    assert 24 == struct.unpack("<I", body[8:12])[0]
    assert struct.pack("<I", 1) + b"n\0" + b"\1t\0" == body[16:25]
    assert 7 == struct.unpack("<Q", body[32:40])[0]


def test_what_is_no_message() -> None:
    """Bytes that don't begin like one are an error."""
    for data in (b"", b"l", b"x" * 16):
        with pytest.raises(ValueError, match="not a message"):
            dbus.length(data)
