"""Sandboxes in the background, and their logs."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.running import PATIENCE, SB, eventually, stdout_until, tell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Count
    from tests.sandbox.running import Sandboxes


@pytest.fixture
def background(sb: Sandboxes) -> Iterator[Sandboxes]:
    """Ends what a test has left in the background."""
    yield sb
    known = sb.command("ps", "-a", "-q").stdout.split()
    own = [each for each in known if (sb.layers.parent / "data" / "sb" / "sandboxes" / each).exists()]
    if own:
        assert 0 == sb.command("rm", "-f", *own).returncode
    assert [] == sb.left_behind(within=5.0)


def test_it_goes_on_without_its_starter(background: Sandboxes) -> None:
    """-d prints the id once the command runs; exec, logs and stop work on it; it is kept."""
    sb = background
    started = sb.command("run", "-d", "--", "sh", "-c", "echo out; echo err >&2; while :; do sleep 0.1; done")
    assert (0, "") == (started.returncode, started.stderr)
    identifier = started.stdout.strip()
    assert 12 == len(identifier)
    assert "1\n" == sb.command("exec", identifier, "sh", "-c", "echo 1").stdout
    eventually(lambda: "out\nerr\n" == sb.command("logs", identifier).stdout)
    assert 0 == sb.command("stop", "-t", "1", identifier).returncode
    assert "exited (143)" in sb.command("ps", "-a").stdout
    assert "out\nerr\n" == sb.command("logs", identifier).stdout


def test_following_a_log_ends_with_the_sandbox(background: Sandboxes) -> None:
    """`logs -f` writes what comes and ends when the sandbox does."""
    sb = background
    sb.command("run", "-d", "--name", "box", "--", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done")
    assert "1\n2\n3\n" == sb.command("logs", "-f", "box").stdout


def test_following_to_the_end_of_one_that_is_not_kept(background: Sandboxes) -> None:
    """Although the log goes with the sandbox, `logs -f` has written all of it."""
    sb = background
    script = "sleep 0.5; seq 200000"
    sb.command("run", "-d", "--rm", "--name", "box", "--", "sh", "-c", script)
    assert [str(number) for number in range(1, 200001)] == sb.command("logs", "-f", "box").stdout.split()
    assert [] == sb.left_behind(within=5.0)


def test_a_large_log_is_rotated(background: Sandboxes) -> None:
    """At 10 MB a new log begins, and nothing of the last 10 MB is lost."""
    sb = background
    sb.command("run", "-d", "--name", "box", "--", "sh", "-c", "seq 1800000")
    eventually(lambda: "exited (0)" in sb.command("ps", "-a").stdout)
    lines = sb.command("logs", "box").stdout.split()
    assert "1800000" == lines[-1]
    (directory,) = (sb.layers.parent / "data" / "sb" / "sandboxes").glob("*/log.1")
    assert directory.stat().st_size >= 10_000_000
    assert directory.with_name("log").stat().st_size < 10_000_000


def test_what_cannot_be_started_is_said(background: Sandboxes) -> None:
    """The starter reports the error, with its exit status."""
    sb = background
    refused = sb.command("run", "-d", "no-such-program")
    assert (127, "") == (refused.returncode, refused.stdout)
    assert "sb: cannot run no-such-program: not found" in refused.stderr
    sb.command("run", "-d", "--name", "box", "sleep", "1000")
    assert "hint: sb start box" in sb.command("run", "-d", "--name", "box", "true").stderr


def test_start_without_a_terminal(background: Sandboxes) -> None:
    """`start` goes to the background when it isn't typed at a terminal, and writes to the same log."""
    sb = background
    sb.command("run", "-d", "--name", "box", "--", "sh", "-c", "echo again")
    eventually(lambda: "exited (0)" in sb.command("ps", "-a").stdout)
    assert 0 == sb.command("start", "box").returncode
    assert "again\nagain\n" == sb.command("logs", "-f", "box").stdout


def test_a_terminal_in_the_background(background: Sandboxes) -> None:
    """-d -t: the command has a terminal of its own, although nobody sits at it."""
    sb = background
    assert 0 == sb.command("run", "-dt", "--name", "box", "--", "sh", "-c", "test -t 0 && echo terminal").returncode
    assert ["terminal"] == sb.command("logs", "-f", "box").stdout.split()


def test_eight_clients_and_many_sandboxes(background: Sandboxes, count: Count) -> None:
    """Sandboxes started, entered, stopped and removed by eight clients at once: nothing is lost or left."""
    script = (
        'for n in $(seq $2); do name=box-$1-$n; "$0" run -d --name $name sleep 1000 >/dev/null && '
        '"$0" exec $name true && "$0" stop -t 0.1 $name && "$0" rm $name || exit 1; done'
    )
    each = str(count(3, 7))  # 24 sandboxes, or 56
    clients = [
        subprocess.Popen(
            ["sh", "-c", script, SB, str(number), each], env=background.environment, stdout=subprocess.DEVNULL
        )
        for number in range(8)
    ]
    for client in clients:
        assert 0 == client.wait(PATIENCE * 4)
    names = os.listdir(background.layers.parent / "data" / "sb" / "sandboxes")
    assert ["names"] == names


def test_the_tree_of_processes(background: Sandboxes) -> None:
    """`ps --tree` gives each process its pid outside and inside; pid 1 is sb's, the command its child."""
    sb = background
    sb.command("run", "-d", "--name", "box", "--", "sh", "-c", "sleep 1000; true")
    assert 0 == sb.command("exec", "box", "true").returncode
    (found,) = (each for each in json.loads(sb.command("ps", "--tree", "--json").stdout)["sandboxes"] if each["name"])
    by_pid = {each["pid"]: each for each in found["processes"]}
    (first,) = (each for each in by_pid.values() if each["pid_inside"] == 1)
    assert found["pid"] == first["pid"]
    (sleep,) = (each for each in by_pid.values() if each["command"] == "sleep 1000")
    shell = by_pid[sleep["parent"]]
    assert (shell["pid_inside"], 1) == (sleep["parent_inside"], shell["parent_inside"])
    assert None is by_pid[first["parent"]]["pid_inside"]
    text = sb.command("ps", "--tree").stdout
    assert f"{sleep['pid']} " in text
    assert "sleep 1000" in sb.command("top", "box").stdout
    (used,) = json.loads(sb.command("stats", "--json", "box").stdout)["sandboxes"]
    assert 3 == used["processes"]


def test_attaching_and_detaching(background: Sandboxes) -> None:
    """What is typed reaches the command, what it writes is shown, ctrl-p ctrl-q leaves it running."""
    sb = background
    sb.command("run", "-dt", "--name", "box", "--", "sh", "-c", "while read line; do echo got-$line; done; exit 6")
    first = attach(sb, "box")
    tell(first, "one\r")
    stdout_until(first, b"got-one")
    tell(first, "\x10\x11")
    assert 0 == first.wait(PATIENCE)
    second = attach(sb, "box")
    tell(second, "two\r")
    assert b"got-one" not in stdout_until(second, b"got-two")
    tell(second, "\x04")
    assert 6 == second.wait(PATIENCE)
    for process in (first, second):
        process.communicate()


def attach(sb: Sandboxes, name: str) -> subprocess.Popen[bytes]:
    """Start `sb attach NAME` with pipes; it has begun when a line typed has been answered."""
    pipe = subprocess.PIPE
    return subprocess.Popen([SB, "attach", name], env=sb.environment, stdin=pipe, stdout=pipe, bufsize=0)
