"""A real shell in a real terminal: Ctrl-Z and fg, a resize, a hang-up. tmux is the terminal and the person."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.sandbox import processes
from tests.sandbox.running import PATIENCE, SB, eventually, stdout_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.sandbox.running import Sandboxes

# How often it was told to go on, once a line comes.
COUNT = """
import os, signal, sys
reader, writer = os.pipe2(os.O_NONBLOCK)
signal.set_wakeup_fd(writer)
signal.signal(signal.SIGCONT, lambda *_: None)
print("ready", flush=True)
sys.stdin.readline()
print("told:", os.read(reader, 99).count(signal.SIGCONT))
"""


class Screen:
    """A tmux of its own with a shell in it."""

    def __init__(self, tmux: Path, place: Path, sb: Sandboxes) -> None:
        self._command = [str(tmux), "-S", str(place / "tmux"), "-f", "/dev/null"]
        subprocess.run(
            [*self._command, "new-session", "-d", "-x", "90", "-y", "25", "env", "PS1=outer$ ", "bash", "--norc", "-i"],
            env=sb.environment,
            check=True,
        )
        self.shows("outer$")

    def types(self, *keys: str) -> None:
        """Press keys, by tmux's names for them."""
        subprocess.run([*self._command, "send-keys", *keys], check=True)

    def text(self) -> str:
        """What the screen shows."""
        return subprocess.run([*self._command, "capture-pane", "-p"], capture_output=True, text=True, check=True).stdout

    def shows(self, wanted: str) -> None:
        """Wait until the screen shows something."""
        deadline = time.monotonic() + PATIENCE
        while wanted not in (text := self.text()):
            assert time.monotonic() < deadline, f"no {wanted!r} on the screen:\n{text}"
            time.sleep(0.05)

    def comes_back(self) -> None:
        """Wait until the shell has the terminal for itself again; what is typed before that is lost with sb."""
        eventually(lambda: not processes.children(self.shell()))

    def resize(self, columns: int, rows: int) -> None:
        """Make the window larger or smaller."""
        subprocess.run([*self._command, "resize-window", "-x", str(columns), "-y", str(rows)], check=True)

    def shell(self) -> int:
        """The pid of the shell in the window."""
        pane = subprocess.run([*self._command, "display", "-p", "#{pane_pid}"], capture_output=True, check=True)
        return int(pane.stdout)

    def close(self) -> None:
        """Take the terminal away."""
        subprocess.run([*self._command, "kill-server"], check=False, capture_output=True)


@pytest.fixture
def screen(sb: Sandboxes, program: Callable[[str], Path], tmp_path: Path) -> Iterator[Screen]:
    """A terminal with a shell at its prompt."""
    opened = Screen(program("tmux"), tmp_path, sb)
    yield opened
    opened.close()


def test_ctrl_z_stops_the_whole_run_and_fg_brings_it_back(screen: Screen) -> None:
    """A command that is no shell: Ctrl-Z gives the outer shell its terminal back, fg goes on with the right modes."""
    screen.types(f"{SB} run -q -- vi", "Enter")
    screen.shows("~")
    screen.types("ihello", "Escape")
    time.sleep(1.1)  # vi takes an Escape for the beginning of a key's code for up to a second
    screen.types("C-z")
    screen.shows("Stopped")
    screen.types("stty -a | grep -o -- ' icanon'; clear; echo $((6 * 7))", "Enter")
    screen.shows("42")
    screen.types("fg", "Enter")
    screen.shows("hello")
    screen.types("Escape", ":q!", "Enter")
    screen.comes_back()
    screen.types("clear; echo $((7 * 9))", "Enter")
    screen.shows("63")


def test_fg_is_told_once_each_time(screen: Screen, tmp_path: Path) -> None:
    """As on the host, the command gets one SIGCONT."""
    (tmp_path / "count.py").write_text(COUNT)
    for run in (f"{sys.executable} -I", f"{SB} run -q -- {sys.executable} -I"):
        screen.types(f"clear; {run} {tmp_path}/count.py", "Enter")
        screen.shows("ready")
        for number in range(5):
            screen.types("C-z")
            screen.shows("Stopped")
            screen.types(f"clear; echo again-$(({number} + 10)); fg", "Enter")
            screen.shows(f"again-{number + 10}")
            time.sleep(0.3)
        screen.types("Enter")
        screen.shows("told: 5\n")
        screen.comes_back()


def test_ctrl_z_belongs_to_an_inner_shell(screen: Screen) -> None:
    """Under a shell in the sandbox, Ctrl-Z stops the shell's job, and Ctrl-C interrupts it."""
    screen.types(f"{SB} run -q -- env PS1=in'ner$ ' bash --norc -i", "Enter")  # not what the prompt will look like
    screen.shows("inner$")
    screen.types("sleep 1000", "Enter")
    time.sleep(0.3)
    screen.types("C-z")
    screen.shows("Stopped")
    screen.types("clear; echo $((6 * 7)); fg", "Enter")
    screen.shows("42")
    time.sleep(0.5)
    screen.types("C-c")
    screen.types("echo status $?", "Enter")
    screen.shows("status 130")
    screen.types("exit 3", "Enter")
    screen.comes_back()
    screen.types("echo status $?", "Enter")
    screen.shows("status 3")


def test_the_sandboxs_terminal_follows_the_windows_size(screen: Screen) -> None:
    """stty size tells the new size after a resize, and bash a COLUMNS of it."""
    script = 'stty size; trap "stty size" WINCH; while :; do sleep 0.1; done'
    screen.types(f"{SB} run -q -- bash --norc -c '{script}'", "Enter")
    screen.shows("25 90")
    screen.resize(70, 20)
    screen.shows("20 70")
    screen.types("C-c")
    screen.shows("outer$")


def test_programs_of_the_terminal_work_inside(screen: Screen) -> None:
    """less, top, script and tput find the terminal that they want."""
    screen.types(f"{SB} run -q -- less /etc/passwd", "Enter")
    screen.shows("root:x:0:0")
    screen.types("q")
    screen.comes_back()
    screen.types(f"clear; {SB} run -q -- top", "Enter")
    screen.shows("sb-init")
    screen.types("q")
    screen.comes_back()
    screen.types(f"clear; {SB} run -q -- sh -c 'tput cols; script -qc tty /dev/null'", "Enter")
    screen.shows("90")
    screen.shows("/dev/pts/1")


def test_what_is_shut_is_said_at_the_start(screen: Screen) -> None:
    """On a terminal one line tells what the sandbox lacks; -q keeps it back."""
    screen.types(f"{SB} run --hide /etc/motd -- true", "Enter")
    screen.shows("sb: no network; hidden: /etc/motd; changes are thrown away at the end")
    screen.comes_back()
    screen.types(f"clear; {SB} run -q -- echo quiet | tr a-z A-Z; {SB} run -q -- echo done", "Enter")
    screen.shows("QUIET\ndone")
    assert "no network" not in screen.text()


def test_a_hang_up_ends_the_sandbox(screen: Screen, sb: Sandboxes) -> None:
    """When the terminal goes, so does the sandbox."""
    screen.types(f"{SB} run -q -- sleep 1000", "Enter")
    eventually(lambda: [each for each in processes.descendants(screen.shell()) if each.name == "sleep"])
    screen.close()
    eventually(lambda: not sb.left_behind())


def test_ctrl_z_in_an_exec(screen: Screen, sb: Sandboxes) -> None:
    """`sb exec` is a job of the outer shell as `sb run` is: Ctrl-Z stops it, the sandbox goes on, fg brings it back."""
    run = sb.start("--name", "box", "--rm", "--", "sh", "-c", "echo ready; read line")
    stdout_until(run, b"ready\n")
    eventually(lambda: "box" in sb.command("ps").stdout)
    screen.types(f"{SB} exec box vi", "Enter")
    screen.shows("~")
    screen.types("ihello", "Escape")
    time.sleep(1.1)  # as above
    screen.types("C-z")
    screen.shows("Stopped")
    screen.types(f"clear; {SB} exec box echo still-$((40 + 2))", "Enter")
    screen.shows("still-42")
    screen.types("fg", "Enter")
    screen.shows("hello")
    screen.types("Escape", ":q!", "Enter")
    screen.comes_back()
    run.communicate(timeout=PATIENCE)


def test_ctrl_z_in_the_background(screen: Screen, sb: Sandboxes) -> None:
    """No shell could resume a command in the background, so a Ctrl-Z that `sb attach` brings it doesn't stop it."""
    script = "while :; do sleep 0.1; n=$((n + 1)); echo line-$n; done"
    assert 0 == sb.command("run", "-dt", "--name", "box", "--", "sh", "-c", script).returncode
    screen.types(f"{SB} attach box", "Enter")
    screen.shows("line-")
    screen.types("C-z")
    time.sleep(0.3)
    before = screen.text()
    eventually(lambda: screen.text() not in (before, ""))
    screen.types("C-p", "C-q")
    screen.shows("detached")
    assert 0 == sb.command("rm", "-f", "box").returncode
