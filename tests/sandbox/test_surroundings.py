"""What the command finds of its caller's: directory, environment, descriptors, /tmp; and what it doesn't find."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sandbox import processes
from tests.sandbox.running import python, stdout_until

if TYPE_CHECKING:
    from tests.sandbox.running import Sandboxes

# The descriptor of the listing itself is closed when it is looked at.
OPEN_DESCRIPTORS = """
import os
print([number for number in map(int, os.listdir("/proc/self/fd")) if os.path.exists(f"/proc/self/fd/{number}")])
"""
CALLERS = "import os; print((os.getcwd(), dict(os.environ)))"


def test_directory_home_and_environment(sb: Sandboxes, tmp_path: Path) -> None:
    """The working directory, HOME and every variable are what they are outside."""
    directory = tmp_path / "a directory"
    directory.mkdir()
    odd = {"ODD": "a b\n'\"$x", "EMPTY": "", "LC_ALL": "C.UTF-8"}
    result = sb(sys.executable, "-I", "-c", CALLERS, directory=directory, variables=odd)
    assert (str(directory), {**sb.environment, **odd}) == ast.literal_eval(result.stdout)


def test_environment_options(sb: Sandboxes) -> None:
    """-e sets, --unsetenv leaves out, --clearenv leaves nothing."""
    cleared = sb("--clearenv", "-e", "A=1", "-e", "B", "/usr/bin/env", variables={"B": "2"})
    assert "A=1\nB=2\n" == cleared.stdout
    left_out = sb("--unsetenv", "B", "sh", "-c", "echo ${B-none}", variables={"B": "2"})
    assert "none\n" == left_out.stdout


def test_working_directory_option(sb: Sandboxes) -> None:
    """-w names another working directory."""
    assert "/usr/lib\n" == sb("-w", "/usr/lib", "pwd").stdout


def test_umask(sb: Sandboxes) -> None:
    """The umask is the caller's."""
    process = sb.start("sh", "-c", "umask", first=lambda: os.umask(0o027))
    assert b"0027\n" == process.communicate(timeout=60)[0]


def test_tmp_is_copy_on_write(sb: Sandboxes, tmp_path: Path) -> None:
    """The host's files in /tmp are there, and what is written there stays inside."""
    (tmp_path / "outside").write_text("from outside")
    script = f"cat outside; echo changed >outside; echo new >inside; rm -r {tmp_path}"
    result = sb("sh", "-c", script, directory=tmp_path)
    assert "from outside" == result.stdout
    assert [("outside", "from outside")] == [(path.name, path.read_text()) for path in tmp_path.iterdir()]


def test_no_descriptor_is_inherited(sb: Sandboxes, tmp_path: Path) -> None:
    """Only 0, 1 and 2 are open, although the caller left another open; without sb it is inherited."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with secret.open() as file:
        extra = file.fileno()
        command = [sys.executable, "-I", "-c", OPEN_DESCRIPTORS]
        control = subprocess.run(command, pass_fds=(extra,), stdout=subprocess.PIPE, check=True).stdout
        output, _ = sb.start(*command, descriptors=(extra,)).communicate(timeout=60)
    assert extra in ast.literal_eval(control.decode())
    assert [0, 1, 2] == sorted(ast.literal_eval(output.decode()))


def test_no_new_privileges(sb: Sandboxes) -> None:
    """no_new_privs is set inside, and isn't outside."""
    if processes.status(os.getpid(), "NoNewPrivs") != "0":
        pytest.skip("no_new_privs is set already where the tests run")
    assert "NoNewPrivs:\t1\n" == sb("grep", "NoNewPrivs", "/proc/self/status").stdout


def test_signals_are_not_blocked(sb: Sandboxes) -> None:
    """The command starts with no signal blocked or ignored, as under a shell."""
    fields = dict(line.split() for line in sb("grep", "^Sig[BI]", "/proc/self/status").stdout.splitlines())
    assert {"SigBlk:": "0" * 16, "SigIgn:": "0" * 16} == fields


def test_layers_are_hidden(sb: Sandboxes) -> None:
    """The directory of the layers, which is there outside, exists in no sandbox, its own and another one's."""
    process = sb.start("sh", "-c", f"ls -A {sb.layers.parent}; ls -d {sb.layers}; echo ready; read x")
    output = stdout_until(process, b"ready\n")
    assert b"ready\n" == output
    assert ["upper"] == [path.name for path in sb.layers.glob("*/upper")]
    beside = sb.start("ls", "-A", str(sb.layers.parent))
    assert (b"", 0) == (beside.communicate(timeout=60)[0], beside.returncode)
    process.communicate(b"\n", timeout=60)


def test_layers_lie_in_var_tmp(sb: Sandboxes) -> None:
    """Without a batch system's directory and without TMPDIR the layer is in /var/tmp, hidden too."""
    place = Path(f"/var/tmp/sb-{os.getuid()}")
    script = f"touch /tmp/sb-mark-$(uname -n); ls -d {place}; uname -n; read x"
    process = sb.start("sh", "-c", script, variables={"SLURM_TMPDIR": "", "TMPDIR": ""})
    identifier = stdout_until(process, b"\n").decode().strip()
    assert (place / identifier / "upper/tmp" / f"sb-mark-{identifier}").exists()
    process.communicate(b"\n", timeout=60)
    assert not (place / identifier).exists()


def test_what_was_hidden_can_be_made(sb: Sandboxes) -> None:
    """A directory of that name, made inside, is an ordinary one."""
    script = f"mkdir -p {sb.layers}/x && echo mine >{sb.layers}/x/y && cat {sb.layers}/*/y"
    assert "mine\n" == sb("sh", "-c", script).stdout


def test_hidden_paths(sb: Sandboxes, tmp_path: Path) -> None:
    """--hide takes a file away, under its other names too."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (tmp_path / "link").symlink_to("secret")
    found = python(
        sb,
        f"""
        import os
        print(sorted(os.listdir({str(tmp_path)!r})))
        for name in ("secret", "link", "../{tmp_path.name}/secret"):
            print(os.path.exists(os.path.join({str(tmp_path)!r}, name)))
        """,
        "--hide",
        str(secret),
    )
    assert ["['link']", "False", "False", "False"] == found


def test_nothing_points_to_a_sandbox_that_is_gone(sb: Sandboxes) -> None:
    """A layer that lies under another TMPDIR is listed in /var/tmp while it is there, and not afterwards."""

    def pointers() -> list[Path]:
        links = (path for path in Path(f"/var/tmp/sb-{os.getuid()}").iterdir() if path.is_symlink())
        return [path for path in links if os.readlink(path).startswith(f"{sb.layers}/")]

    running = sb.start("sh", "-c", "echo ready; read line")
    stdout_until(running, b"ready\n")
    assert 1 == len(pointers())
    running.communicate()
    assert [] == pointers()
