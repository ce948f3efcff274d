"""What Docker explains itself with: a sandbox's processes are ordinary ones behind a barrier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox import processes
from tests.sandbox.running import eventually, stdout_until, tell

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


@pytest.fixture(autouse=True)
def _ps(program: Callable[[str], Path]) -> None:
    program("ps")


def sleepers(process: subprocess.Popen[bytes]) -> list[int]:
    """The pids on the host of the sleep(1) that run below `sb run`."""
    return [each.pid for each in processes.descendants(process.pid) if each.name == "sleep"]


def test_ps_lists_only_the_sandbox(sb: Sandboxes) -> None:
    """ps finds pid 1, bash among the first pids, itself, and nothing of the host's."""
    result = sb("/bin/bash", "-c", "ps -eaf; true")
    lines = [line.split(None, 7) for line in result.stdout.splitlines()[1:]]
    commands = {int(fields[1]): fields[7] for fields in lines}
    assert "sb-init" == commands.pop(1)
    shell = min(commands)
    assert shell < 10
    assert commands.pop(shell).startswith("/bin/bash")
    assert ["ps -eaf"] == list(commands.values())


def test_all_belong_to_root(sb: Sandboxes) -> None:
    """The command runs as root, as ps shows it."""
    assert ["root"] == sb("ps", "-o", "user=", "-C", "ps").stdout.split()


def test_sleepers_inside_and_on_the_host(sb: Sandboxes) -> None:
    """Four `sleep` run inside, are ordinary descendants of `sb run` with other pids outside, and end with bash."""
    process = sb.start("/bin/bash")
    tell(process, "for each in 1 2 3 4; do sleep 1000 & done; ps -o pid= -C sleep; echo ready\n")
    inside = [int(word) for word in stdout_until(process, b"ready").split()[:-1]]
    outside = sleepers(process)
    assert 4 == len(set(inside)) == len(set(outside))
    assert set() == set(inside) & set(outside)
    assert sorted(inside) == sorted(processes.numbers(pid)[-1] for pid in outside)
    tell(process, "exit 3\n")
    assert 3 == process.wait(60)
    assert [] == [pid for pid in outside if processes.look(pid) is not None]
    assert [] == sb.left_behind()


def test_a_second_sandbox_sees_nothing_of_the_first(sb: Sandboxes) -> None:
    """Beside a sandbox with four `sleep` another one has none."""
    process = sb.start("/bin/bash", "-c", "for each in 1 2 3 4; do sleep 1000 & done; echo ready; wait")
    stdout_until(process, b"ready")
    eventually(lambda: 4 == len(sleepers(process)))
    beside = sb.start("ps", "-e", "-o", "comm=")
    output, _ = beside.communicate(timeout=60)
    assert [b"ps", b"sb-init"] == sorted(output.split())
    assert 4 == len(sleepers(process))


def test_signals_reach_nothing_outside(sb: Sandboxes) -> None:
    """`kill -9 -1`, of all that root can see, leaves the host's processes and pid 1 alone."""
    beside = sb.start("sh", "-c", "echo ready; sleep 1000")
    stdout_until(beside, b"ready")
    killer = sb.start("/bin/bash", "-c", "sleep 1000 & kill -9 -1; kill -9 1; wait; echo survived; ps -e -o comm=")
    output, _ = killer.communicate(timeout=60)
    assert b"survived" in output
    assert b"sb-init" in output
    assert beside.poll() is None


def test_orphans_are_reaped(sb: Sandboxes) -> None:
    """What loses its parent becomes pid 1's child, and isn't left as a zombie."""
    script = "for each in 1 2 3 4 5; do (sleep 0.1 &) ; done; sleep 0.5; ps -e -o stat=,comm="
    assert [] == [line for line in sb("sh", "-c", script).stdout.splitlines() if line.startswith("Z")]


def test_many_orphans_end_with_the_command(sb: Sandboxes) -> None:
    """Daemons that have left their session are gone when the command is."""
    result = sb("sh", "-c", "for each in 1 2 3 4 5 6 7 8; do setsid sleep 1000 >/dev/null 2>&1 & done; exit 4")
    assert 4 == result.returncode
