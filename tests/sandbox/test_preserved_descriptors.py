"""`--preserve-fd`: what the caller has open, under the same number inside."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.running import PATIENCE, SB, eventually, listed, stdout_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.sandbox.agents import Agent
    from tests.sandbox.running import Sandboxes

INODES = "for each in 7 8; do stat -Lc %i /proc/self/fd/$each; done"


def bash(
    sb: Sandboxes, script: str, directory: Path | None = None, pass_fds: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a script outside in which `$SB` is `sb` and `$RUN` is `sb run -q`."""
    return subprocess.run(
        ["bash", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=directory,
        env={**sb.environment, "SB": str(SB), "RUN": f"{SB} run -q"},
        pass_fds=pass_fds,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def test_pipes_as_they_are(sb: Sandboxes) -> None:
    """By one list of numbers or two options, and by a setting: inside is the same pipe as outside."""
    for options in ("--preserve-fd 7,8", "--preserve-fd 7 --preserve-fd=8"):
        found = bash(sb, f"({INODES}; $RUN {options} -- sh -c '{INODES}') 7< <(sleep 1) 8> >(cat)").stdout.split()
        assert (4, found[:2]) == (len(found), found[2:])
    assert "hello\n" == bash(sb, "SB_PRESERVE_FD=7 $RUN -- sh -c 'echo hello >&7' 7>&1 >/dev/null | cat").stdout


def test_files_by_pipes(sb: Sandboxes, tmp_path: Path) -> None:
    """What wasn't read of a file is there for the next; what is written to one, or to two that are one, is in order."""
    (tmp_path / "list").write_text("one\ntwo\nthree\n")
    script = """
        exec 7<list
        $RUN --preserve-fd 7,9 -- sh -c 'read a <&7; echo $a >&9' 9>log
        $RUN --preserve-fd 7,8,9 -- sh -c 'read a <&8; for n in 1 2 3; do echo $a >&9; echo $n; done' 8<&7 >>log 9>&1
        cat <&7
        """
    done = bash(sb, script, tmp_path)
    assert (0, "three\n", "") == (done.returncode, done.stdout, done.stderr)
    assert "one\ntwo\n1\ntwo\n2\ntwo\n3\n" == (tmp_path / "log").read_text()


def test_numbers_that_are_sbs_own_too(sb: Sandboxes) -> None:
    """Whatever sb has open at such a number itself meanwhile; errors are told all the same."""
    numbers = range(3, 40)
    opened = " ".join(f"{number}<<<{number}" for number in numbers)
    named = ",".join(map(str, numbers))
    read = "for n in {3..39}; do read x <&$n; echo $x; done"
    done = bash(sb, f"$RUN --preserve-fd {named} -- bash -c '{read}' {opened}")
    assert [str(number) for number in numbers] == done.stdout.split()
    failed = bash(sb, f"$RUN --preserve-fd {named} -- no-such-program {opened}")
    assert (127, "sb: cannot run no-such-program: not found") == (failed.returncode, failed.stderr.splitlines()[0])
    high = bash(sb, "ulimit -n 200; $RUN --preserve-fd 199 -- true 199<<<x")
    assert (125, True) == (high.returncode, "\n\nhint: " in high.stderr)


@pytest.mark.parametrize(
    ("options", "redirection", "said"),
    [
        ("--preserve-fd 7", "", "--preserve-fd 7: not open\n\nhint: sb run --preserve-fd 7 COMMAND 7<FILE"),
        ("--preserve-fd 3", "", "--preserve-fd 3: not open"),
        ("--preserve-fd 99999999999999", "", "--preserve-fd 99999999999999: not open"),
        ("--preserve-fd x", "", "--preserve-fd x: not the number of a descriptor"),
        ("--preserve-fd 7,", "7<<<x", "--preserve-fd : not the number of a descriptor"),
        ("--preserve-fd 2,7", "7<<<x", "--preserve-fd 2: 0, 1 and 2 are there in any case"),
        ("--preserve-fd 7 --status-fd 7", "7>/dev/null", "--preserve-fd 7 and --status-fd 7: what --status-fd tells"),
        ("--preserve-fd 7", "7</", "--preserve-fd 7: whoever holds a directory reaches all of this machine"),
        ("--preserve-fd 7", "7</dev/ptmx", "--preserve-fd 7: whoever holds a terminal can type into it"),
        ("--preserve-fd 7", "7<>file", "--preserve-fd 7: a file that is open for both"),
        ("-d --preserve-fd 7", "7</", "--preserve-fd 7: whoever holds a directory"),
    ],
)
def test_what_cannot_be(sb: Sandboxes, tmp_path: Path, options: str, redirection: str, said: str) -> None:
    """One line and a hint, and nothing has run."""
    refused = bash(sb, f"$RUN {options} -- echo ran {redirection}", tmp_path)
    assert (125, "") == (refused.returncode, refused.stdout)
    assert refused.stderr.startswith(f"sb: {said}")
    assert (3, "hint: ") == (len(refused.stderr.splitlines()), refused.stderr.splitlines()[2][:6])


def test_in_the_background(sb: Sandboxes, tmp_path: Path) -> None:
    """-d: the command has it when sb has long returned; a file too, also one that was stdout once."""
    (tmp_path / "given").write_text("hello\n")
    command = "read line <&8; echo $line $line >&9"
    script = f"$RUN -d --rm --preserve-fd 7,8,9 -- sh -c 'read go <&7; {command}; echo end >&9' 8<given >log 9>&1"
    reader, writer = os.pipe()
    started = bash(sb, f"{script} 7<&{reader}", tmp_path, (reader,))
    assert (0, "") == (started.returncode, started.stderr)
    os.close(reader)
    os.write(writer, b"go\n")
    os.close(writer)
    eventually(lambda: (tmp_path / "log").read_text().endswith("hello hello\nend\n"))
    eventually(lambda: not listed(sb))


def test_exec(sb: Sandboxes) -> None:
    """One more command in a sandbox that runs, or has ended, has what its own caller preserves, and nothing else."""
    box = sb.start("-q", "--name", "box", "--", "sh", "-c", "echo ready; read line")
    stdout_until(box, b"ready\n")
    look = "$SB exec --preserve-fd 7,8 box sh -c 'cat <&7; echo out >&8; ls /proc/self/fd' 7<<<given 8>&1 9<<<other"
    expected = ["given", "out", "0", "1", "2", "3", "7", "8"]
    assert expected == bash(sb, look).stdout.split()
    box.communicate(b"\n", timeout=PATIENCE)
    assert expected == bash(sb, look).stdout.split()
    refused = bash(sb, "$SB exec --preserve-fd 7 box true")
    assert (125, True) == (refused.returncode, "--preserve-fd 7: not open" in refused.stderr)


def test_with_an_agent(agent: Agent) -> None:
    """Handed over to whoever runs it; its end is seen outside once the command has closed it, as without an agent."""
    script = 'exec "$@" 7<<<given 9<<<other'
    shown = agent.warm(
        "--preserve-fd", "7", "--", "sh", "-c", "cat <&7; ls /proc/self/fd", through=("bash", "-c", script, "bash")
    )
    assert ["given", "0", "1", "2", "3", "7"] == shown.split()
    _end_is_seen(agent.sb)


def test_the_end_is_seen(sb: Sandboxes) -> None:
    """Whoever reads a pipe sees its end once the command has closed it, though it runs on."""
    _end_is_seen(sb)


def _end_is_seen(sb: Sandboxes) -> None:
    reader, writer = os.pipe()
    command = ("bash", "-c", f"echo hello >&{writer}; exec {writer}>&-; echo closed; read line")
    run = sb.start("-q", "--preserve-fd", str(writer), "--", *command, descriptors=(writer,))
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert b"hello\n" == pipe.read()
    stdout_until(run, b"closed\n")
    run.communicate(b"\n", timeout=PATIENCE)
