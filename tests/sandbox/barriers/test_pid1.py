"""Attack: pid 1, which sb left behind. Barrier: user namespace B, nested in the one that pid 1 belongs to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.sandbox import processes
from tests.sandbox.barriers.attackers import CHILD, outside, program
from tests.sandbox.running import eventually, stdout_until

if TYPE_CHECKING:
    from tests.conftest import Count
    from tests.sandbox.barriers.attackers import Attacker
    from tests.sandbox.running import Sandboxes

# What /proc has of a process and only its tracer may see; PTRACE_ATTACH and process_vm_readv by ctypes.
SPY = """
    import signal
    def read(name):
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
            file.read(1)
    def trace():
        if libc.ptrace(16, pid, None, None) == -1:
            raise OSError(ctypes.get_errno(), "")
        os.waitpid(pid, 0)
        libc.ptrace(17, pid, None, None)
    def peek():
        buffer = ctypes.create_string_buffer(8)
        vector = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
        place = (ctypes.c_void_p * 2)(id(None), 8)
        if libc.process_vm_readv(pid, vector, 1, place, 1, 0) == -1:
            raise OSError(ctypes.get_errno(), "")
    for name in ("environ", "maps", "auxv"):
        print(name, outcome(read, name))
    for name in ("exe", "cwd", "root", "fd/0"):
        print(name, outcome(os.readlink, f"/proc/{pid}/{name}"))
    print("mem", outcome(os.open, f"/proc/{pid}/mem", os.O_RDWR))
    print("root/", outcome(os.listdir, f"/proc/{pid}/root/"))
    print("trace", outcome(trace))
    print("peek", outcome(peek))
    """
END = "\n    os.kill(pid, signal.SIGKILL)"
REFUSED = ("EACCES", "EPERM")


def test_nothing_of_it_can_be_had(attacker: Attacker) -> None:
    """Environment, memory, program, directories and descriptors of pid 1 are refused, those of a child are not."""
    ended = dict(line.split() for line in attacker(f"    pid = 1{SPY}"))
    assert {} == {name: how for name, how in ended.items() if how not in REFUSED}
    own = dict(line.split() for line in attacker(CHILD + SPY + END))
    assert set(own) == set(ended)
    assert {"done"} == set(own.values()) == {line.split()[1] for line in outside(CHILD + SPY + END)}


def test_its_environment_is_wiped(sb: Sandboxes) -> None:
    """For the user too, outside, /proc/PID/environ of pid 1 has none of the caller's variables; sb's own has."""
    run = sb.start("sh", "-c", "echo ready; read line", variables={"SECRET": "hunter2"})
    stdout_until(run, b"ready\n")
    by_name = {each.name: each.pid for each in processes.descendants(run.pid)}

    def environment(pid: int) -> bytes:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()

    assert b"" == environment(by_name["sb-init"]).strip(b"\0")
    assert b"hunter2" in environment(run.pid)
    run.communicate(b"\n", timeout=60)


def test_it_has_given_up_its_powers(sb: Sandboxes) -> None:
    """pid 1 keeps no capability once the command runs; the overlay server has none, and can't be read."""
    run = sb.start("sh", "-c", "echo ready; read line")
    stdout_until(run, b"ready\n")
    by_name = {each.name: each.pid for each in processes.descendants(run.pid)}
    for name in ("sb-init", "sb-overlay"):
        pid = by_name[name]
        eventually(lambda pid=pid: "0" * 16 == processes.status(pid, "CapPrm") == processes.status(pid, "CapEff"))  # type: ignore[misc]
    assert "1" == processes.status(by_name["sb-init"], "NoNewPrivs")
    assert "0" * 16 != processes.status(by_name["sb-watch"], "CapPrm")
    assert not os.access(f"/proc/{by_name['sb-overlay']}/environ", os.R_OK)  # not dumpable
    run.communicate(b"\n", timeout=60)


# Looks at the program of everything that appears, until it is told to end; prints the names of those that it saw.
LURK = """
    import select
    seen = set()
    print("ready", flush=True)
    while not select.select([0], [], [], 0)[0]:
        for pid in os.listdir("/proc"):
            try:
                os.readlink(f"/proc/{pid}/exe")
                with open(f"/proc/{pid}/comm") as file:
                    seen.add(file.read().strip())
            except (OSError, ValueError):
                pass
    print(*sorted(seen))
    """


def test_a_command_on_its_way_in(sb: Sandboxes, count: Count) -> None:
    """What `sb exec` forks isn't reached from inside before its own program runs; that one is seen."""
    box = sb.start("--name", "box", "--rm", "--", *program(LURK))
    stdout_until(box, b"ready\n")
    eventually(lambda: "running" in sb.command("ps").stdout)
    for _ in range(count(20, 500)):
        assert 0 == sb.command("exec", "box", "sleep", "0.05").returncode
    output, _ = box.communicate(b"\n", timeout=60)
    seen = output.split()
    assert b"sleep" in seen
    assert [] == [name for name in seen if name.startswith(b"sb-")]
