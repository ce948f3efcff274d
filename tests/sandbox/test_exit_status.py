"""The exit status of `sb run`, and what it says when it is sb that failed."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.running import stdout_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


def write_program(path: Path, text: str, mode: int = 0o755) -> str:
    """Write an executable text; returns its path."""
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def explained(errors: str) -> tuple[str, str]:
    """The one line of an error and its hint; they must be in the form that all errors of sb have."""
    line, empty, hint = errors.rstrip("\n").split("\n")
    assert line.startswith("sb: ")
    assert "" == empty
    assert hint.startswith("hint: ")
    return line.removeprefix("sb: "), hint.removeprefix("hint: ")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("kill -SEGV $$", 139),
        ("kill -PIPE $$", 141),
    ],
)
def test_the_commands_own(sb: Sandboxes, script: str, expected: int) -> None:
    """Its exit status, or 128 and the number of the signal that ended it; and sb says nothing."""
    result = sb("sh", "-c", script)
    assert (expected, "", "") == (result.returncode, result.stdout, result.stderr)


def test_missing_command(sb: Sandboxes) -> None:
    """127, one line that names it."""
    result = sb("no-such-command")
    assert (127, "sb: cannot run no-such-command: not found\n") == (result.returncode, result.stderr)


def test_missing_path(sb: Sandboxes, tmp_path: Path) -> None:
    """127 for a path too."""
    result = sb(str(tmp_path / "missing"))
    assert (127, f"sb: cannot run {tmp_path}/missing: not found\n") == (result.returncode, result.stderr)


def test_missing_interpreter(sb: Sandboxes, tmp_path: Path) -> None:
    """127, and the hint says that it isn't the script which is missing."""
    path = write_program(tmp_path / "script", "#!/no/such/interpreter\n")
    result = sb(path)
    line, hint = explained(result.stderr)
    assert (127, f"cannot run {path}: not found") == (result.returncode, line)
    assert "interpreter" in hint


def test_not_executable(sb: Sandboxes, tmp_path: Path) -> None:
    """126 for a file without the x bit."""
    path = write_program(tmp_path / "script", "#!/bin/sh\n", 0o644)
    result = sb(path)
    assert (126, f"sb: cannot run {path}: Permission denied\n") == (result.returncode, result.stderr)


def test_not_executable_on_the_path(sb: Sandboxes, tmp_path: Path) -> None:
    """126 as well when PATH leads to it; with the x bit the same name runs."""
    path = tmp_path / "some-program"
    write_program(path, "#!/bin/sh\nexit 5\n", 0o644)
    search = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert 126 == sb("some-program", variables=search).returncode
    path.chmod(0o755)
    assert 5 == sb("some-program", variables=search).returncode


def test_a_directory(sb: Sandboxes, tmp_path: Path) -> None:
    """126 for a directory."""
    assert 126 == sb(str(tmp_path)).returncode


def test_script_without_interpreter(sb: Sandboxes, tmp_path: Path) -> None:
    """A script without `#!` is the shell's, as execvp(3) has it, and gets its arguments."""
    path = write_program(tmp_path / "script", 'echo "$1-$#"; exit 6\n')
    result = sb(path, "one", "two")
    assert (6, "one-2\n") == (result.returncode, result.stdout)


@pytest.mark.parametrize(
    ("arguments", "line", "hint"),
    [
        (["--tmpfsx", "true"], "unknown option --tmpfsx", "--help"),
        (["--hostnam=x", "true"], "unknown option --hostnam", "--hostname"),
        (["--userns", "other", "true"], "other", "sb run --help"),
        (["-e", "=x", "true"], "not a variable", "NAME=VALUE"),
        (["-w", "relative", "true"], "not an absolute path", "sb run -w /"),
        (["-w", "/no/such", "true"], "cannot enter /no/such: No such file or directory", "-w DIR"),
        (["--allow-degraded", "pid", "true"], "--allow-degraded pid", "net"),
    ],
)
def test_bad_options(sb: Sandboxes, arguments: list[str], line: str, hint: str) -> None:
    """125, a line, an empty line and a hint."""
    result = sb(*arguments)
    said = explained(result.stderr)
    assert (125, "") == (result.returncode, result.stdout)
    assert line in said[0]
    assert hint in said[1]


def test_options_end_at_the_command(sb: Sandboxes) -> None:
    """What follows COMMAND is the command's own, `--` and options of sb included."""
    script = 'echo "$@"'
    assert "--userns -- -q\n" == sb("sh", "-c", script, "sh", "--userns", "--", "-q").stdout
    assert "a\n" == sb("--", "echo", "a").stdout


def test_help_and_version(sb: Sandboxes) -> None:
    """`sb run --help` is 0, on stdout, with an example."""
    result = sb("--help")
    assert (0, "") == (result.returncode, result.stderr)
    assert "example: sb run" in result.stdout


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"])
def test_signals_reach_the_command(sb: Sandboxes, name: str) -> None:
    """A signal sent to `sb run` is the command's to handle."""
    process = sb.start("sh", "-c", f"trap 'echo got; exit 5' {name}; echo ready; while :; do sleep 0.05; done")
    stdout_until(process, b"ready\n")
    process.send_signal(signal.Signals[f"SIG{name}"])
    output, errors = process.communicate(timeout=60)
    assert (5, b"got\n", False) == (process.returncode, output, b"sb:" in errors)


def test_a_signal_ends_a_command_that_does_not_handle_it(sb: Sandboxes) -> None:
    """SIGTERM to `sb run` ends the command, hence 143."""
    process = sb.start("sh", "-c", "echo ready; exec sleep 1000")
    stdout_until(process, b"ready\n")
    process.terminate()
    assert 143 == process.wait(60)


def test_ignored_signals_stay_ignored(sb: Sandboxes) -> None:
    """What the caller ignores, as nohup(1) does, the command ignores too."""
    process = sb.start(
        "sh", "-c", "kill -HUP $$; echo survived", first=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    output, _ = process.communicate(timeout=60)
    assert (0, b"survived\n") == (process.returncode, output)


def test_a_removed_working_directory(sb: Sandboxes, tmp_path: Path) -> None:
    """125 and a hint when the directory that one stands in is gone."""
    lost = tmp_path / "lost"
    lost.mkdir()
    process = sb.start("true", directory=lost, first=lambda: os.rmdir(lost))
    _, errors = process.communicate(timeout=60)
    assert 125 == process.returncode
    assert "-w DIR" in explained(errors.decode())[1]
