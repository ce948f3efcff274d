"""`sb try`: run, look, and decide."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.reviewing import at_a_terminal
from tests.sandbox.running import PATIENCE, read_until, store

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory of the host's with a file."""
    made = tmp_path / "host"
    made.mkdir()
    (made / "file").write_text("one\n")
    return made


def attempt(sb: Sandboxes, host: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `sb try` in a directory, with nobody to ask."""
    return sb.command("try", *words[:-1], "-w", str(host), "--", "sh", "-c", words[-1])


def kept(sb: Sandboxes) -> list[str]:
    """The sandboxes that are there."""
    return [path.name for path in store(sb).glob("*") if path.name != "names"]


def test_apply(sb: Sandboxes, host: Path) -> None:
    """--apply: stdout and status are the command's, stderr has the tree, and the changes are on the host."""
    done = attempt(sb, host, "--apply", "echo said; echo two >file; mkdir new; exit 3")
    assert (3, "said\n") == (done.returncode, done.stdout)
    assert f"  {host}/  (4 B)\nC   file  (data, 4 B)\nA   new/  (0 B)\n1 added, 1 changed (4 B)\n" in done.stderr
    assert "sb: applied: 1 added, 1 changed (4 B)\n" in done.stderr
    assert ("two\n", True) == ((host / "file").read_text(), (host / "new").is_dir())
    assert [] == kept(sb)


def test_discard_and_keep(sb: Sandboxes, host: Path) -> None:
    """--discard leaves nothing; --keep leaves a sandbox that can be looked at."""
    done = attempt(sb, host, "--discard", "rm file")
    assert (0, True, []) == (done.returncode, (host / "file").exists(), kept(sb))
    done = attempt(sb, host, "--keep", "--name", "box", "rm file")
    assert (0, True, 1) == (done.returncode, (host / "file").exists(), len(kept(sb)))
    assert f"D {host}/file\n" == sb.command("diff", "box").stdout


def test_no_change(sb: Sandboxes, host: Path) -> None:
    """It says so, ends with the command's status, and leaves nothing; a file written back is no change either."""
    for script, status in (("exit 7", 7), ("cat file >x; cat x >file; rm x", 0)):
        done = attempt(sb, host, "--keep", script)
        assert (status, "sb: no changes\n") == (done.returncode, done.stderr)
        assert [] == kept(sb)


def test_a_conflict_keeps_the_sandbox(sb: Sandboxes, host: Path) -> None:
    """What can't be applied isn't lost: the error says how to go on."""
    done = attempt(sb, host, "--apply", "--name", "box", "echo x >.bashrc; echo y >new")
    assert 125 == done.returncode
    assert "sb: cannot apply 1 of the changes: what runs by itself is asked for\n" in done.stderr
    assert done.stderr.endswith("the changes are kept: sb apply box, or sb rm box\n")
    assert ["file"] == os.listdir(host)
    assert 0 == sb.command("apply", "--allow-risky", "box").returncode
    assert [".bashrc", "file", "new"] == sorted(os.listdir(host))


def test_nobody_to_ask(sb: Sandboxes, host: Path) -> None:
    """In a script a flag has to say it, and that is said before anything is run; two of them are an error."""
    done = attempt(sb, host, "echo ran; echo x >file")
    assert (125, "") == (done.returncode, done.stdout)
    assert done.stderr.endswith("hint: --apply, --keep or --discard\n")
    done = attempt(sb, host, "--apply", "--discard", "echo ran")
    assert (125, "") == (done.returncode, done.stdout)


def test_what_is_set_for_all_runs_is_no_answer(sb: Sandboxes, host: Path) -> None:
    """A configuration that keeps every sandbox doesn't contradict --apply, nor decide what is to be asked."""
    sb.environment["SB_KEEP"] = "1"
    done = attempt(sb, host, "--apply", "echo two >file")
    assert (0, "two\n", []) == (done.returncode, (host / "file").read_text(), kept(sb))
    assert 125 == attempt(sb, host, "echo three >file").returncode


def test_a_command_that_is_not_there(sb: Sandboxes, host: Path) -> None:
    """It is 127, as with sb run, and nothing is left."""
    done = sb.command("try", "--keep", "no-such-program")
    assert (127, []) == (done.returncode, kept(sb))


@pytest.mark.parametrize(("answer", "content"), [("a", "two\n"), ("d", "one\n"), ("k", "one\n")])
def test_asked(sb: Sandboxes, host: Path, answer: str, content: str) -> None:
    """Who sits at a terminal is shown the changes and asked; an answer that is none is asked again."""
    process, master = at_a_terminal(sb, "try", "-w", str(host), "--", "sh", "-c", "echo two >file")
    shown = read_until(master, b"[a/k/d] ")
    assert b"C " in shown
    os.write(master, b"what?\n")
    read_until(master, b"[a/k/d] ")
    os.write(master, f"{answer}\n".encode())
    read_until(master, {"a": b"applied: 1 changed", "d": b"discarded", "k": b"kept"}[answer])
    assert 0 == process.wait(PATIENCE)
    assert (content, answer == "k") == ((host / "file").read_text(), bool(kept(sb)))
    os.close(master)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_at_the_question(sb: Sandboxes, host: Path, number: int) -> None:
    """A signal is as good as no answer: the sandbox is kept, and sb ends."""
    process, master = at_a_terminal(sb, "try", "-w", str(host), "--", "sh", "-c", "echo two >file")
    read_until(master, b"[a/k/d] ")
    process.send_signal(number)
    read_until(master, b"kept: sb diff")
    assert 0 == process.wait(PATIENCE)
    assert ("one\n", 1) == ((host / "file").read_text(), len(kept(sb)))
    os.close(master)
