"""Sandboxes that are kept: listed, described, removed; and names."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sandbox import processes
from tests.sandbox.running import PATIENCE, SB, eventually, listed, stdout_until, store

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Count
    from tests.sandbox.running import Sandboxes


def test_a_kept_sandbox_is_listed_and_removed(sb: Sandboxes) -> None:
    """--name keeps the layer; ps -a, inspect and rm know it by its name."""
    made = sb("--name", "box", "--", "sh", "-c", "echo kept >/etc/kept; exit 3")
    assert (3, "") == (made.returncode, made.stderr)
    assert [] == listed(sb)
    (found,) = listed(sb, "-a")
    assert ("box", "exited", 3, None) == (found["name"], found["status"], found["exit_code"], found["pid"])
    assert ["sh", "-c", "echo kept >/etc/kept; exit 3"] == found["command"]
    assert "kept\n" == (store(sb) / found["id"] / "upper/etc/kept").read_text()
    (described,) = json.loads(sb.command("inspect", "box").stdout)["sandboxes"]
    assert found["id"] == described["id"]
    assert "box exited (3) " in " ".join(sb.command("ps", "-a").stdout.split())
    assert "box\n" == sb.command("rm", "box").stdout
    assert [] == listed(sb, "-a")
    assert ["names"] == [path.name for path in store(sb).iterdir()]


def test_a_taken_name_and_an_unknown_name(sb: Sandboxes) -> None:
    """A taken name is 125 with what to do; an unknown one names the nearest; a removed one is free again."""
    sb("--name", "build", "true")
    taken = sb("--name", "build", "true")
    assert 125 == taken.returncode
    assert "sb: the name build is taken\n\nhint: sb start build\n" == taken.stderr
    unknown = sb.command("inspect", "bulid")
    assert 125 == unknown.returncode
    assert unknown.stderr.startswith("sb: there is no sandbox bulid\n\nhint: did you mean build?")
    assert 0 == sb.command("rm", "build").returncode
    assert 0 == sb("--name", "build", "true").returncode


@pytest.mark.parametrize("name", ["../x", "a/b", "-x", "a b", "ä"])
def test_what_cannot_be_a_name(sb: Sandboxes, name: str) -> None:
    """Names are what a path and a shell take as one word."""
    assert 125 == sb(f"--name={name}", "true").returncode


def test_a_command_that_cannot_be_run_leaves_nothing(sb: Sandboxes) -> None:
    """A new sandbox whose command isn't there isn't kept, and its name stays free."""
    assert 127 == sb("--name", "box", "no-such-program").returncode
    assert [] == listed(sb, "-a")
    assert 0 == sb("--name", "box", "true").returncode


def test_a_running_sandbox_can_be_kept(sb: Sandboxes) -> None:
    """`sb keep` on a running throw-away one: its layer stays, under the name that was given."""
    run = sb.start("--", "sh", "-c", "echo x >/etc/changed; echo ready; read line")
    stdout_until(run, b"ready\n")
    (found,) = listed(sb)
    assert "running" == found["status"]
    assert 125 == sb.command("rm", found["id"]).returncode
    assert f"{found['id']}\n" == sb.command("keep", found["id"], "box").stdout
    _, errors = run.communicate(timeout=PATIENCE)
    assert b"" == errors
    (found,) = listed(sb, "-a")
    assert ("box", "exited") == (found["name"], found["status"])
    assert 0 == sb.command("keep", "box", "crate").returncode
    assert 125 == sb.command("inspect", "box").returncode
    assert 0 == sb.command("rm", "crate").returncode


def test_a_killed_sandbox_is_lost_and_can_be_removed(sb: Sandboxes) -> None:
    """When the supervisor is killed, the state that it left reads `lost`; prune removes it."""
    run = sb.start("--keep", "--", "sh", "-c", "echo ready; read line")
    stdout_until(run, b"ready\n")
    eventually(lambda: [each["status"] for each in listed(sb)] == ["running"])
    run.kill()
    run.wait()
    eventually(lambda: [each["status"] for each in listed(sb, "-a")] == ["lost"])
    assert 0 == sb.command("prune", "-f").returncode
    assert [] == listed(sb, "-a")


@pytest.mark.parametrize(
    ("point", "ended"),
    [
        *(("directory-made", 125), ("state-written", 125), ("directory-named", 125)),
        *(("start-unnoted", -signal.SIGKILL), ("unmounted", 0), ("end-unnoted", -signal.SIGKILL)),
    ],
)
def test_killed_at_any_step_of_a_run(sb: Sandboxes, point: str, ended: int) -> None:
    """Whatever step of a kept run is cut short: the next command reads it right, and its name can be had again."""
    assert ended == sb("--name", "box", "true", variables={"SB_FAULT": point}).returncode
    assert [] == [each for each in listed(sb, "-a") if each["status"] not in ("lost", "exited")]
    if listed(sb, "-a"):
        assert 0 == sb.command("rm", "box").returncode
    assert 0 == sb("--name", "box", "true").returncode
    assert ["exited"] == [each["status"] for each in listed(sb, "-a")]


def test_an_end_that_cannot_be_settled_takes_nothing_away(sb: Sandboxes) -> None:
    """Where it can't be told at the end whether a sandbox is kept, that is an error, and its layer stays."""
    run = sb.start("--name", "box", "--", "sh", "-c", "echo x >/etc/changed; echo ready; read line")
    stdout_until(run, b"ready\n")
    eventually(lambda: [each["status"] for each in listed(sb)] == ["running"])
    place = store(sb) / listed(sb)[0]["id"]
    (place / "state.lock").unlink()
    (place / "state.lock").mkdir()
    _, errors = run.communicate(timeout=PATIENCE)
    assert (125, True) == (run.returncode, errors.startswith(b"sb: cannot "))
    assert "x\n" == (place / "upper/etc/changed").read_text()


@pytest.mark.parametrize("point", ["removal-begun", "layer-removed"])
def test_killed_at_any_step_of_a_removal(sb: Sandboxes, point: str) -> None:
    """A removal that was cut short is a removal: the name is free, and nothing is listed."""
    sb("--name", "box", "--", "touch", "/etc/x")
    assert -signal.SIGKILL == sb.command("rm", "box", fault=point).returncode
    assert [] == listed(sb, "-a")
    assert 0 == sb("--name", "box", "true").returncode


def edit_state(sb: Sandboxes, name: str, change: Callable[[list[str]], list[str]]) -> None:
    """Change the lines of a sandbox's state file, as another version of sb would have written them."""
    (found,) = json.loads(sb.command("inspect", name).stdout)["sandboxes"]
    file = Path(found["directory"]) / "state"
    file.write_text("".join(change(file.read_text().splitlines(keepends=True))))


def test_a_state_of_an_older_sb_is_read(sb: Sandboxes) -> None:
    """What that one didn't know of has its default; what this one doesn't know of is passed over."""
    sb("--name", "box", "--", "sh", "-c", "exit 3")
    newer = ("wanted.user=", "wanted.timeout=")
    edit_state(sb, "box", lambda lines: [line for line in lines if not line.startswith(newer)] + ["forgotten=1\n"])
    assert [("exited", 3)] == [(each["status"], each["exit_code"]) for each in listed(sb, "-a")]
    assert 3 == sb.command("start", "-a", "box").returncode
    assert "0\n" == sb.command("exec", "box", "id", "-u").stdout


def test_a_state_of_another_format_is_refused_with_the_reason(sb: Sandboxes) -> None:
    """Every command says which format it is; `ps` lists the others; `rm -f`, as the hint says, removes it."""
    sb("--name", "box", "true")
    sb("--name", "other", "true")
    edit_state(sb, "box", lambda lines: ["schema=0\n", *lines[1:]])
    for words in (["inspect", "box"], ["start", "box"], ["exec", "box", "true"], ["logs", "box"], ["rm", "box"]):
        refused = sb.command(*words)
        assert (125, "") == (refused.returncode, refused.stdout)
        assert "cannot read the sandbox box: its state has version 0, this sb reads 1" in refused.stderr
        assert "hint: sb rm -f box" in refused.stderr
    shown = sb.command("ps", "-a")
    assert ("other" in shown.stdout, "box" in shown.stdout) == (True, False)
    assert "version 0" in shown.stderr
    assert 0 == sb.command("prune", "-f").returncode
    assert 0 == sb.command("rm", "-f", "box").returncode
    assert 125 == sb.command("inspect", "box").returncode


def test_a_running_one_that_cannot_be_read_is_ended_by_force(sb: Sandboxes) -> None:
    """`rm -f` needs no state: it ends the processes and removes the rest."""
    run = sb.start("--name", "box", "--", "sh", "-c", "echo ready; exec sleep 1000")
    stdout_until(run, b"ready\n")
    eventually(lambda: [each["status"] for each in listed(sb)] == ["running"])
    edit_state(sb, "box", lambda lines: ["schema=0\n", *lines[1:]])
    assert 0 == sb.command("rm", "-f", "box").returncode
    run.wait(PATIENCE)
    assert [] == listed(sb, "-a")


def test_who_is_at_work_on_it_is_said(sb: Sandboxes) -> None:
    """A command that can't have the sandbox names the process that has it."""
    run = sb.start("--name", "box", "--", "sh", "-c", "echo ready; read line")
    stdout_until(run, b"ready\n")
    eventually(lambda: [each["status"] for each in listed(sb)] == ["running"])
    refused = sb.command("rm", "box")
    holders = {each.pid for each in processes.descendants(run.pid) if each.name == "sb-watch"}
    assert 125 == refused.returncode
    said = {int(word) for word in refused.stderr.split() if word.isdecimal()}
    assert 1 == len(said)
    assert said <= {run.pid, *holders}
    assert "is at work on it" in refused.stderr
    run.communicate(timeout=PATIENCE)


def test_many_are_listed(sb: Sandboxes, count: Count) -> None:
    """All of them, the newest first, in every form; prune removes every one."""
    number = count(12, 200)
    for each in range(number):
        assert 0 == sb("--name", f"box-{each}", "-q", "--", "true").returncode
    own = [each["id"] for each in listed(sb, "-a")]
    assert number == len(own)
    assert set(own) <= set(sb.command("ps", "-aq").stdout.split())
    assert set(own) <= {line.split()[0] for line in sb.command("ps", "-a").stdout.splitlines()}
    assert {f"box-{each}" for each in range(number)} == {each["name"] for each in listed(sb, "-a")}
    assert 0 == sb.command("prune", "-f").returncode
    assert [] == listed(sb, "-a")


@pytest.mark.parametrize(
    ("point", "ended"), [("start-unnoted", -signal.SIGKILL), ("unmounted", 0), ("end-unnoted", -signal.SIGKILL)]
)
def test_started_while_another_is_at_it(sb: Sandboxes, point: str, ended: int) -> None:
    """Whatever step a killed start was at, the sandbox that was there before can be started again."""
    sb("--name", "box", "--", "sh", "-c", "echo x >>/etc/count; wc -l </etc/count")
    assert ended == sb.command("start", "-a", "box", fault=point).returncode
    eventually(lambda: [each["status"] for each in listed(sb, "-a")] in (["exited"], ["lost"]))
    done = sb.command("start", "-a", "box")
    assert (0, True) == (done.returncode, done.stdout.strip() in ("2", "3"))
    if point != "start-unnoted":  # by then the command had ended, and its line was to stay
        assert "3\n" == done.stdout


def test_interrupted_in_its_last_wait(sb: Sandboxes) -> None:
    """A kept run whose caller doesn't wait for the last writes has ended as its command did: it isn't lost."""
    run = sb.start("--name", "box", "--", "sh", "-c", "exit 5", variables={"SB_FAULT": "unmounted:stop"})

    def stopped() -> list[processes.Process]:
        return [each for each in processes.descendants(run.pid) if (each.name, each.state) == ("sb-watch", "T")]

    eventually(stopped)
    (watcher,) = stopped()
    run.terminate()
    assert 5 == run.wait(PATIENCE)
    os.kill(watcher.pid, signal.SIGCONT)
    eventually(lambda: [(each["status"], each["exit_code"]) for each in listed(sb, "-a")] == [("exited", 5)])


def test_who_only_has_a_look_is_waited_for(sb: Sandboxes) -> None:
    """Commands that list and sweep hold each sandbox for a moment, and don't make `start` and `rm` fail."""
    sb("--name", "box", "true")
    (found,) = listed(sb, "-a")
    lock = os.open(store(sb) / found["id"] / "lock", os.O_RDWR)
    for words in (["start", "-a", "box"], ["rm", "box"]):
        fcntl.flock(lock, fcntl.LOCK_EX)
        threading.Timer(0.3, lambda: fcntl.flock(lock, fcntl.LOCK_UN)).start()
        assert 0 == sb.command(*words).returncode
    os.close(lock)


def test_a_layer_that_is_hard_to_remove(sb: Sandboxes) -> None:
    """One deeper than there are descriptors, with directories that are called as those that removal makes."""
    script = (
        "import os\n"
        "for number in range(200):\n"
        "    os.makedirs(f'/.sb-removing-{number}/x')\n"
        "os.chdir('/')\n"
        "for _ in range(1200):\n"
        "    os.mkdir('d')\n"
        "    os.chdir('d')\n"
    )
    assert 0 == sb("--name", "box", "--", "python3", "-c", script).returncode
    (found,) = listed(sb, "-a")
    assert (store(sb) / found["id"] / "upper/.sb-removing-199/x").is_dir()
    command = ["sh", "-c", 'ulimit -n 256; exec "$0" rm box', str(SB)]
    removed = subprocess.run(command, env=sb.environment, capture_output=True, text=True, check=False)
    assert (0, "box\n", "") == (removed.returncode, removed.stdout, removed.stderr)
    assert ["names"] == [path.name for path in store(sb).iterdir()]
