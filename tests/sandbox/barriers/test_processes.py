"""Attack: signals to, and tracing of, processes outside. Barriers: PID namespace, Landlock. Inside both work."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tests.sandbox.barriers.attackers import CHILD, PRELUDE, outside
from tests.sandbox.running import eventually, stdout_until

if TYPE_CHECKING:
    from tests.sandbox.barriers.attackers import Attacker
    from tests.sandbox.running import Sandboxes

# Signals and traces the process `pid`, if it has that number.
TOUCH = """
    def trace():
        if libc.ptrace(0x4206, pid, None, None) == -1:  # PTRACE_SEIZE
            raise OSError(ctypes.get_errno(), "")
    print(outcome(os.kill, pid, 0), outcome(trace))
    """


def test_processes_outside_do_not_exist(attacker: Attacker) -> None:
    """The number of a process outside, ours, means nothing inside; outside it is reached."""
    assert ["ESRCH ESRCH"] == attacker(f"    pid = {os.getpid()}{TOUCH}")
    assert ["done done"] == outside(f"    pid = {os.getpid()}{TOUCH}")


def test_own_processes_can_be_traced(attacker: Attacker) -> None:
    """A child is signalled and traced, as debuggers do."""
    assert ["done done"] == attacker(CHILD + TOUCH + "\n    os.kill(pid, 9)")


def test_a_process_of_the_other_way_in(sb: Sandboxes) -> None:
    """What `sb exec` starts can signal and trace the sandbox's own command: both are in one domain."""
    box = sb.start("--name", "box", "--rm", "--", "sh", "-c", "echo $$; read line")
    pid = int(stdout_until(box, b"\n"))
    eventually(lambda: "running" in sb.command("ps").stdout)
    script = PRELUDE + f"pid = {pid}" + TOUCH.replace("\n    ", "\n")
    done = sb.command("exec", "box", sys.executable, "-I", "-c", script)
    assert "done done\n" == done.stdout, done.stderr
    box.communicate(timeout=60)
