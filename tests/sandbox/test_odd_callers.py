"""Callers with odd limits, masks, signals and descriptors: a sandbox that runs all the same, or one clear line."""

from __future__ import annotations

import functools
import os
import resource
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.sandbox import processes
from tests.sandbox.running import PATIENCE, SB, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


def shell(sb: Sandboxes, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script under bash, in which $SB is sb."""
    return subprocess.run(
        ["bash", "-c", script],
        env={**sb.environment, "SB": str(SB)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_the_callers_umask_is_its_commands_only(sb: Sandboxes) -> None:
    """A hardened umask reaches what the command makes, and neither the root nor what sb puts there."""
    done = shell(sb, "umask 077; $SB run -q -- sh -c 'stat -c %a / /etc/hosts; touch /tmp/sb-x; stat -c %a /tmp/sb-x'")
    assert "755\n644\n600\n" == done.stdout


def test_the_callers_limits_are_its_commands_only(sb: Sandboxes) -> None:
    """A limit on file sizes is an error of the command's, and the overlay server lives on."""
    script = 'trap "" XFSZ; head -c 4M /dev/zero >/tmp/big; echo $?; echo alive >/tmp/small; cat /tmp/small'
    done = shell(sb, f"ulimit -f 1000; $SB run -q -- sh -c '{script}'")
    assert "1\nalive\n" == done.stdout, done.stderr


@pytest.mark.parametrize("descriptors", [12, 20, 256])
def test_few_descriptors(sb: Sandboxes, descriptors: int) -> None:
    """With too few descriptors there is one line that says so; with some more it runs."""
    done = shell(sb, f"ulimit -n {descriptors}; $SB run -q true")
    if descriptors == 256:
        assert (0, "") == (done.returncode, done.stderr)
    else:
        assert done.returncode in (125, 126)
        assert "Too many open files" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_caller_that_ignores_its_children(sb: Sandboxes) -> None:
    """SIGCHLD that is ignored by the caller doesn't make the kernel take our children's statuses."""
    run = sb.start("-q", "sh", "-c", "exit 3", first=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert 3 == run.wait(PATIENCE)


def test_an_interruption_at_the_very_start(sb: Sandboxes) -> None:
    """Ctrl-C before the command runs ends sb as it ends any program: no traceback, nothing left."""
    for delay in (0.0, 0.01, 0.02, 0.05, 0.1):
        run = sb.start("-q", "sleep", "1000")
        eventually(functools.partial(processes.children, run.pid))
        time.sleep(delay)
        run.send_signal(signal.SIGINT)
        errors = run.communicate(timeout=PATIENCE)[1]
        assert b"" == errors
        assert run.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
        assert [] == sb.left_behind(within=2.0)


def test_a_stdin_that_cannot_be_read(sb: Sandboxes, tmp_path: Path) -> None:
    """A descriptor 0 that is open for writing only is no obstacle to a command that doesn't read."""
    assert 0 == shell(sb, f"$SB run -q true 0>'{tmp_path}/file'").returncode


def test_the_end_of_input_reaches_a_terminal(sb: Sandboxes) -> None:
    """`sb run -t cat </dev/null` ends: the end of what there is to read is an end of file inside."""
    assert 0 == shell(sb, "$SB run -q -t cat </dev/null").returncode


def test_one_open_file_as_input_and_output(sb: Sandboxes, tmp_path: Path) -> None:
    """A file that is stdin and stdout at once is read by one pipe and written by another."""
    assert 0 == shell(sb, f"$SB run -q echo hello <>'{tmp_path}/file' 1>&0").returncode
    assert "hello\n" == (tmp_path / "file").read_text()


def test_a_named_pipe_is_no_way_to_the_host(sb: Sandboxes, tmp_path: Path) -> None:
    """Through a FIFO on stdin the command can't change the host's file; outside of a sandbox it can."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    change = "chmod 666 /proc/self/fd/0"
    shell(sb, f"exec 3<>'{fifo}'; $SB run -q -- sh -c '{change}' <'{fifo}'")
    assert 0o600 == fifo.stat().st_mode & 0o777
    shell(sb, f"exec 3<>'{fifo}'; sh -c '{change}' <'{fifo}'")
    assert 0o666 == fifo.stat().st_mode & 0o777


def test_layers_in_other_places_are_hidden(sb: Sandboxes, tmp_path: Path) -> None:
    """A sandbox doesn't see the layer of another whose TMPDIR is elsewhere; the host does."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = "echo secret >/tmp/made; echo ready; cat"
    other = sb.start("-q", "--", "sh", "-c", script, variables={"SLURM_TMPDIR": str(elsewhere)})
    assert other.stdout is not None
    assert b"ready\n" == other.stdout.readline()
    assert ["made"] == [path.name for path in elsewhere.rglob("made")]
    look = sb.start("-q", "--", "find", str(elsewhere), "-mindepth", "1")
    assert (b"", b"") == look.communicate(timeout=PATIENCE)
    other.kill()
    other.wait()


@pytest.mark.parametrize("name", ["a\nb", ".x", "ä", "x" * 65, "\udcff"])
def test_host_names_that_are_none(sb: Sandboxes, name: str) -> None:
    """A host name that would break /etc/hosts, or the kernel refuses, is one error."""
    done = sb("--hostname", name, "true")
    assert 125 == done.returncode
    assert "not a host name" in done.stderr


def test_many_hidden_paths(sb: Sandboxes) -> None:
    """The overlay server takes a configuration of any length."""
    options = [word for number in range(3000) for word in ("--hide", f"/tmp/a-name-of-some-length-{number}")]
    assert 0 == sb("-q", *options, "--", "true").returncode


def test_a_limit_of_processors_seconds_is_the_commands(sb: Sandboxes) -> None:
    """RLIMIT_CPU ends a command that uses it up, by the signal that it would have had without sb."""
    script = "while :; do :; done"
    run = sb.start("-q", "--", "sh", "-c", script, first=lambda: resource.setrlimit(resource.RLIMIT_CPU, (1, 2)))
    assert 128 + signal.SIGXCPU == run.wait(PATIENCE)


def test_a_limit_of_processes_is_named(sb: Sandboxes) -> None:
    """However far sb comes with as many processes as its user may have, it is said once what to look at."""
    script = """
        count=$(ps -L -u $(id -u) --no-headers | wc -l)
        for limit in 1 $((count + 1)) $((count + 2)) $((count + 3)) $((count + 4)) $((count + 6)); do
            (ulimit -S -u $limit; $SB run -q true)
        done
        """
    done = shell(sb, script)
    assert "internal error" not in done.stderr
    assert done.stderr.count("hint: ") == done.stderr.count("ulimit -u tells") >= 1


@pytest.mark.parametrize("size", [0, 1, 2])
def test_a_limit_of_sbs_own_files(sb: Sandboxes, size: int) -> None:
    """What sb can't write is one line with a hint, wherever that is."""
    refused = shell(sb, f"ulimit -f {size}; $SB run true")
    first, _, hint = refused.stderr.splitlines()
    assert (125, True) == (refused.returncode, first.endswith("File too large"))
    assert hint.startswith("hint: ulimit -f")


def test_a_limit_of_the_commands_files(sb: Sandboxes) -> None:
    """SIGXFSZ kills a command as it does without sb, unless the command ignores it."""
    write = "head -c 1000000 /dev/zero >/tmp/sb-x"
    killed = shell(sb, f"ulimit -f 200; $SB run -q -- sh -c 'exec {write}'")
    assert 128 + signal.SIGXFSZ == killed.returncode
    told = shell(sb, f"ulimit -f 200; $SB run -q -- sh -c \"trap '' XFSZ; {write}\"")
    assert (1, True) == (told.returncode, "File too large" in told.stderr)


def test_volumes_in_a_directory_that_was_removed(sb: Sandboxes, tmp_path: Path) -> None:
    """What begins there is named as what can't be found; what doesn't, runs."""
    for volume, status in ((".:/data", 125), ("/etc:/data", 0)):
        gone = tmp_path / f"gone-{status}"
        gone.mkdir()
        done = shell(sb, f"cd '{gone}' && rmdir '{gone}' && exec $SB run -w / -v {volume} true")
        assert (status, status != 0) == (done.returncode, "the working directory: No such file" in done.stderr)
