"""Options of `sb run` from configuration files and from the environment."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.running import PATIENCE, SB

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


@pytest.fixture
def configure(sb: Sandboxes, tmp_path: Path) -> Path:
    """The user's configuration file, empty."""
    file = tmp_path / "config" / "sb" / "config.toml"
    file.parent.mkdir(parents=True)
    sb.environment["XDG_CONFIG_HOME"] = str(tmp_path / "config")
    return file


def test_the_nearest_wins(sb: Sandboxes, configure: Path) -> None:
    """The command line, then SB_*, then a profile, then [run]."""
    configure.write_text('[run]\nhostname = "file"\n[profile.ci]\nhostname = "profile"\n')
    assert "file\n" == sb("uname", "-n").stdout
    assert "profile\n" == sb("--profile", "ci", "uname", "-n").stdout
    assert "profile\n" == sb("uname", "-n", variables={"SB_PROFILE": "ci"}).stdout
    assert "variable\n" == sb("--profile", "ci", "uname", "-n", variables={"SB_HOSTNAME": "variable"}).stdout
    assert "flag\n" == sb("--hostname", "flag", "uname", "-n", variables={"SB_HOSTNAME": "variable"}).stdout


def test_lists_add_up(sb: Sandboxes, configure: Path) -> None:
    """What the file hides stays hidden when the command line hides more; `keep = true` gives way to --rm."""
    configure.write_text('[run]\nhide = ["/etc/passwd"]\nkeep = true\n')
    done = sb("--rm", "--hide", "/etc/group", "ls", "-d", "/etc/passwd", "/etc/group", "/etc")
    assert "/etc\n" == done.stdout
    assert not (sb.layers.parent / "data").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[run]\ntimeuot = 1\n", "unknown key timeuot\n\nhint: did you mean timeout?"),
        ("[rnu]\n", "unknown table rnu\n\nhint: did you mean run?"),
        ("[run\n", "cannot read "),
        ("run = 1\n", "run: not a table"),
    ],
)
def test_a_bad_file_is_named(sb: Sandboxes, configure: Path, text: str, said: str) -> None:
    """Nothing runs; one line says which file and what of it, and a hint the nearest name."""
    configure.write_text(text)
    refused = sb("echo", "ran")
    assert (125, "") == (refused.returncode, refused.stdout)
    assert said in refused.stderr
    assert str(configure) in refused.stderr


@pytest.mark.parametrize("kind", ["fifo", "directory", "device", "socket"])
def test_what_is_no_file_is_refused(sb: Sandboxes, configure: Path, kind: str) -> None:
    """Nobody waits for somebody who writes, or for a device's end: one line and a hint."""
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "fifo":
            os.mkfifo(configure)
        elif kind == "directory":
            configure.mkdir()
        elif kind == "device":
            configure.symlink_to("/dev/zero")
        else:
            listener.bind(str(configure))
        refused = sb("echo", "ran")
    assert (125, "") == (refused.returncode, refused.stdout)
    first, empty, hint, *more = refused.stderr.splitlines()
    assert (True, "", []) == (first.startswith(f"sb: cannot read {configure}: "), empty, more)
    assert hint.startswith("hint: ")


def test_what_is_named_may_be_a_pipe(sb: Sandboxes) -> None:
    """--env-file and --seccomp take what a shell's <(…) makes: whoever names a FIFO has somebody write to it."""
    profile = '{"defaultAction": "SCMP_ACT_ALLOW"}'
    options = f"--env-file <(echo GREETING=hello) --seccomp <(echo '{profile}')"
    script = f"exec $0 run -q {options} -- sh -c 'echo $GREETING'"
    done = subprocess.run(
        ["bash", "-c", script, SB], env=sb.environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (0, "hello\n", "") == (done.returncode, done.stdout, done.stderr)


def test_the_working_directory_has_no_say(sb: Sandboxes, tmp_path: Path) -> None:
    """A config.toml in the directory that sb is called in is just a file."""
    (tmp_path / "config.toml").write_text("[nonsense")
    (tmp_path / "sb").mkdir()
    (tmp_path / "sb/config.toml").write_text("[nonsense")
    assert 0 == sb("true", directory=tmp_path, variables={"XDG_CONFIG_HOME": "."}).returncode
