"""`sb exec`: one more command in a running sandbox, as `sb run` would run it."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.sandbox import processes
from tests.sandbox.running import PATIENCE, SB, eventually, stdout_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.running import Sandboxes


@pytest.fixture
def box(sb: Sandboxes) -> Iterator[subprocess.Popen[bytes]]:
    """A running sandbox with the name `box`, which ends with its stdin."""
    run = sb.start("--name", "box", "--rm", "-e", "FROM=run", "-w", "/tmp", "--", "sh", "-c", "echo ready; read line")
    stdout_until(run, b"ready\n")
    eventually(lambda: "box" in sb.command("ps").stdout)
    yield run
    run.communicate(timeout=PATIENCE)


def start(sb: Sandboxes, *arguments: str) -> subprocess.Popen[bytes]:
    """Start `sb exec ARGUMENTS` with pipes."""
    return subprocess.Popen(
        [SB, "exec", *arguments],
        env=sb.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.usefixtures("box")
def test_it_is_the_same_sandbox(sb: Sandboxes) -> None:
    """Files, namespaces, directory and variables are those of the sandbox; stdin, stdout and stderr the caller's."""
    assert 0 == sb.command("exec", "box", "sh", "-c", "echo hello >/etc/greeting").returncode
    script = "cat /etc/greeting; pwd; echo $FROM $MORE; id -u; readlink /proc/1/ns/pid /proc/self/ns/pid | uniq | wc -l"
    done = sb.command("exec", "-e", "MORE=exec", "box", "sh", "-c", f"{script}; echo problem >&2")
    assert ["hello", "/tmp", "run exec", "0", "1"] == done.stdout.splitlines()
    assert "problem\n" == done.stderr
    script = "readlink /proc/$PPID/ns/user /proc/self/ns/user | uniq | wc -l"
    inner = sb.command("exec", "box", "readlink", "/proc/self/ns/user").stdout
    again = sb.command("exec", "box", "readlink", "/proc/self/ns/user").stdout
    assert inner == again


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(
    ("command", "status"),
    [(("true",), 0), (("sh", "-c", "exit 7"), 7), (("sh", "-c", "kill -9 $$"), 137), (("no-such-program",), 127),
     (("/etc",), 126)],
)  # fmt: skip
def test_exit_codes(sb: Sandboxes, command: tuple[str, ...], status: int) -> None:
    """The command's own, 128 + n for signal n, 126 and 127 as for `sb run`."""
    assert status == sb.command("exec", "box", *command).returncode


@pytest.mark.usefixtures("box")
def test_stdin_and_long_command_lines(sb: Sandboxes) -> None:
    """A pipe is the command's stdin; arguments and variables may be as long as exec takes them."""
    cat = start(sb, "box", "cat")
    assert (b"text", b"") == cat.communicate(b"text", timeout=PATIENCE)
    word = "x" * 100_000
    done = sb.command("exec", "box", "sh", "-c", "echo $#", "sh", *[word] * 10)
    assert "10\n" == done.stdout


@pytest.mark.usefixtures("box")
def test_signals_reach_the_command(sb: Sandboxes) -> None:
    """SIGTERM to `sb exec` is the command's, and the sandbox lives on."""
    run = start(sb, "box", "sh", "-c", "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.1; done")
    stdout_until(run, b"ready\n")
    run.terminate()
    assert b"caught\n" == run.communicate(timeout=PATIENCE)[0]
    assert 5 == run.returncode
    assert 0 == sb.command("exec", "box", "true").returncode


def test_the_clients_end_is_the_commands(sb: Sandboxes, box: subprocess.Popen[bytes]) -> None:
    """When `sb exec` is killed, its command is, and nothing else."""
    run = start(sb, "box", "sleep", "1000")

    def sleeping() -> list[processes.Process]:
        return [each for each in processes.descendants(box.pid) if each.name == "sleep"]

    eventually(sleeping)
    run.kill()
    run.communicate()
    eventually(lambda: not sleeping())
    assert None is box.poll()


def test_the_sandboxs_end_is_the_commands(sb: Sandboxes, box: subprocess.Popen[bytes]) -> None:
    """When the sandbox's own command ends, so do all others, and who waits for them is told."""
    run = start(sb, "box", "sh", "-c", "echo ready; exec sleep 1000")
    stdout_until(run, b"ready\n")
    box.communicate(timeout=PATIENCE)
    assert b"the sandbox has ended" in run.communicate(timeout=PATIENCE)[1]
    assert 125 == run.returncode


@pytest.mark.usefixtures("box")
def test_what_stays_in_the_background_does_not_hold_the_caller(sb: Sandboxes) -> None:
    """The exec ends with its command, although something else in the sandbox still holds its stdout."""
    before = time.monotonic()
    done = sb.command("exec", "box", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo done")
    assert "done\n" == done.stdout
    assert time.monotonic() - before < PATIENCE / 2


@pytest.mark.usefixtures("box")
def test_a_terminal_of_its_own(sb: Sandboxes) -> None:
    """-t: the command leads a session with a pty of the sandbox's; its end is seen."""
    done = sb.command("exec", "-t", "box", "sh", "-c", "tty; test -t 0 && echo yes")
    assert "/dev/pts/0" in done.stdout
    assert "yes" in done.stdout
    assert 0 == done.returncode


def test_a_sandbox_that_does_not_run(sb: Sandboxes) -> None:
    """An unknown one is 125."""
    assert 125 == sb.command("exec", "nobody", "true").returncode


@pytest.mark.usefixtures("box")
def test_many_at_once(sb: Sandboxes) -> None:
    """Eight clients at once get eight answers."""
    runs = [start(sb, "box", "sh", "-c", f"exit {number}") for number in range(8)]
    for number, run in enumerate(runs):
        run.communicate(timeout=PATIENCE)
        assert number == run.returncode


@pytest.mark.usefixtures("box")
def test_signals_are_as_the_caller_has_them(sb: Sandboxes) -> None:
    """What the caller ignores the command ignores, and nothing else."""
    look = ["grep", "SigIgn", "/proc/self/status"]
    outside = subprocess.run(look, capture_output=True, text=True, check=True).stdout
    assert outside == sb.command("exec", "box", *look).stdout
    ignoring = ["sh", "-c", 'trap "" USR1; exec "$0" "$@"', str(SB), "exec", "box", *look]
    done = subprocess.run(ignoring, env=sb.environment, capture_output=True, text=True, check=True)
    (before, after) = (int(line.split()[1], 16) for line in (outside, done.stdout))
    assert before | 1 << (signal.SIGUSR1 - 1) == after
