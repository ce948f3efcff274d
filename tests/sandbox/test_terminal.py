"""On a terminal the command gets one of the sandbox's own, and the caller's is as it was afterwards."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import termios
from typing import TYPE_CHECKING

import pytest

from tests.sandbox import processes
from tests.sandbox.running import SB, eventually, read_until, start_on_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.running import Sandboxes, Streams

ROWS, COLUMNS = 33, 101
LOCAL_MODES = 3  # the place of c_lflag in what tcgetattr(3) gives in Python


class Terminal:
    """A terminal as a person has it: `master` is the screen and the keyboard, `slave` what programs get."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        self._unread = b""
        self.resize(ROWS, COLUMNS)

    def resize(self, rows: int, columns: int) -> None:
        """Change the size, as a person who pulls at the window does."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def run(self, sb: Sandboxes, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `sb run ARGUMENTS` as the leader of this terminal's session."""
        return start_on_terminal(sb, self.slave, [SB, "run", *arguments])

    def type(self, text: str) -> None:
        """Type."""
        os.write(self.master, text.encode())

    def read_until(self, wanted: str) -> str:
        """What appears, up to what is wanted."""
        before, found, self._unread = read_until(self.master, wanted.encode(), self._unread).partition(wanted.encode())
        return (before + found).decode()

    def is_raw(self) -> bool:
        """Whether the terminal passes on what is typed as it is, and echoes nothing."""
        modes: int = termios.tcgetattr(self.slave)[LOCAL_MODES]
        return not modes & (termios.ECHO | termios.ICANON | termios.ISIG)

    def close(self) -> None:
        """Hang up."""
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal of 33 rows and 101 columns."""
    made = Terminal()
    yield made
    made.close()


@pytest.fixture
def bash(sb: Sandboxes, terminal: Terminal) -> subprocess.Popen[bytes]:
    """An interactive bash on the terminal, that has shown its first prompt, `ready>`."""
    process = terminal.run(sb, "-q", "-e", "PS1=ready>", "/bin/bash", "--norc", "--noprofile", "-i")
    terminal.read_until("ready>")
    return process


def test_terminal_of_the_sandbox(sb: Sandboxes, terminal: Terminal) -> None:
    """tty(1) names the sandbox's first pty, and it has the size of the caller's terminal."""
    process = terminal.run(sb, "sh", "-c", "tty; stty size; echo done")
    assert f"/dev/pts/0\r\n{ROWS} {COLUMNS}\r\ndone" in terminal.read_until("done")
    assert 0 == process.wait(60)


def test_what_a_person_is_told(sb: Sandboxes, terminal: Terminal) -> None:
    """On a terminal sb says first what is shut; with -q it doesn't."""
    process = terminal.run(sb, "echo", "done")
    assert "sb: no network" in terminal.read_until("done")
    process.wait(60)
    process = terminal.run(sb, "-q", "echo", "done")
    assert "sb:" not in terminal.read_until("done")
    process.wait(60)


def test_all_three_are_the_terminal(sb: Sandboxes, terminal: Terminal) -> None:
    """stdin, stdout and stderr are the sandbox's terminal, and it is the controlling one."""
    process = terminal.run(sb, "sh", "-c", "readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2; echo x >/dev/tty")
    assert "/dev/pts/0\r\n" * 3 + "x\r\n" in terminal.read_until("x\r\n")
    assert 0 == process.wait(60)


def test_exit_status(sb: Sandboxes, terminal: Terminal, bash: subprocess.Popen[bytes]) -> None:
    """The status that is typed comes out."""
    terminal.type("exit 9\r")
    assert 9 == bash.wait(60)
    assert [] == sb.left_behind()


def test_modes_are_restored(terminal: Terminal, bash: subprocess.Popen[bytes]) -> None:
    """The caller's terminal is raw while the sandbox has it, and has its modes back afterwards."""
    assert terminal.is_raw()
    terminal.type("exit\r")
    assert 0 == bash.wait(60)
    assert not terminal.is_raw()
    other = Terminal()
    assert termios.tcgetattr(other.slave) == termios.tcgetattr(terminal.slave)
    other.close()


def test_modes_are_restored_when_sb_fails(sb: Sandboxes, terminal: Terminal) -> None:
    """A command that can't be started leaves the terminal as it was."""
    before = termios.tcgetattr(terminal.slave)
    process = terminal.run(sb, "no-such-command")
    assert "sb: cannot run no-such-command: not found\r\n" in terminal.read_until("not found\r\n")
    assert 127 == process.wait(60)
    assert before == termios.tcgetattr(terminal.slave)


def test_control_c(terminal: Terminal, bash: subprocess.Popen[bytes]) -> None:
    """Ctrl-C interrupts what runs in the shell, and not the shell."""
    terminal.type("sleep 1000\r")
    eventually(lambda: any(each.name == "sleep" for each in processes.descendants(bash.pid)))
    terminal.type("\x03")
    terminal.read_until("ready>")
    terminal.type("echo status-$?-$((40 + 2))\r")
    terminal.read_until("status-130-42")
    terminal.read_until("ready>")
    terminal.type("exit\r")
    bash.wait(60)


def test_control_d(terminal: Terminal, bash: subprocess.Popen[bytes]) -> None:
    """Ctrl-D is the end of input, for a command in the shell and for the shell."""
    terminal.type("cat; echo cat-ended-$?\r")
    eventually(lambda: any(each.name == "cat" for each in processes.descendants(bash.pid)))
    terminal.type("text\r\x04")
    terminal.read_until("cat-ended-0")
    terminal.read_until("ready>")
    terminal.type("\x04")
    assert 0 == bash.wait(60)


def test_resizing(sb: Sandboxes, terminal: Terminal) -> None:
    """The sandbox's terminal follows the size of the caller's, and programs hear of it."""
    script = "trap 'echo resized to $(stty size); exit 6' WINCH; echo begin; while :; do sleep 0.05; done"
    process = terminal.run(sb, "sh", "-c", script)
    terminal.read_until("begin")
    terminal.resize(24, 80)
    terminal.read_until("resized to 24 80")
    assert 6 == process.wait(60)


def test_bytes_pass_unharmed(sb: Sandboxes, terminal: Terminal) -> None:
    """UTF-8 and control characters go both ways as they are."""
    process = terminal.run(sb, "-q", "sh", "-c", "stty raw -echo; echo begin; head -c 12 | od -An -tx1; echo end")
    terminal.read_until("begin")
    os.write(terminal.master, "é€\0\x03\x04\x11\x7f\r\n".encode())
    assert "c3 a9 e2 82 ac 00 03 04 11 7f 0d 0a" in terminal.read_until("end")
    assert 0 == process.wait(60)


def test_no_terminal_is_handed_over(sb: Sandboxes, terminal: Terminal) -> None:
    """With stdout elsewhere the command has no terminal at all, stderr's is reached through a pipe."""
    streams: Streams = {"stdin": terminal.slave, "stdout": subprocess.PIPE, "stderr": terminal.slave}
    script = "test -t 0 || test -t 1 || test -t 2 || echo none; cat; echo to-stderr >&2"
    process = sb.start("sh", "-c", script, streams=streams)
    output, _ = process.communicate(timeout=60)
    assert b"none\n" == output
    terminal.read_until("to-stderr")


def test_a_hangup_ends_the_sandbox(sb: Sandboxes) -> None:
    """When the caller's terminal goes away, so does the sandbox."""
    terminal = Terminal()
    process = terminal.run(sb, "sh", "-c", "echo ready; sleep 1000")
    terminal.read_until("ready")
    terminal.close()
    assert 129 == process.wait(60)
    assert [] == sb.left_behind()
