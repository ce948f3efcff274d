"""Limits that a control group holds: in a part of the hierarchy that is the user's, and through the user's systemd."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.sandbox import user_mode
from tests.sandbox.running import SB
from tests.sandbox.user_mode import GROUP

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

    Ends = Mapping[str, subprocess.CompletedProcess[str]]

RUN = (str(SB), "run", "-q")
EAT = "x = bytearray({} * 1_000_000)"
# How much of a processor two processes get together that want all they can have, in percent.
SPIN = """
import os, time
begin = time.monotonic()
for _ in range(2):
    if os.fork() == 0:
        while time.monotonic() - begin < 2:
            pass
        os._exit(0)
for _ in range(2):
    os.wait()
used = os.times()
print(round(100 * (used.children_user + used.children_system) / (time.monotonic() - begin)))
"""
FORK = """
import os, time
children = 0
try:
    while children < 60:
        if os.fork() == 0:
            time.sleep(1000)
        children += 1
except BlockingIOError:
    pass
print(children)
"""
# The groups that are there: of one whose watcher is killed, and after the next run.
KILLED = f"""
{SB} run -q -d --rm -- sleep 1000 >/dev/null
pkill -KILL -x sb-watch
while pgrep -x sb-init >/dev/null; do sleep 0.1; done
ls -d {GROUP}/sb-* | wc -l
{SB} run -q true
ls -d {GROUP}/sb-* 2>/dev/null | wc -l
"""
COMMANDS = {
    "where": (*RUN, "--name", "box", "--", "cat", "/proc/self/cgroup"),
    "inspected": (str(SB), "inspect", "box"),
    "too-much": (*RUN, "--memory", "60m", "--", "python3", "-c", EAT.format(150)),
    "enough": (*RUN, "--memory", "300m", "--", "python3", "-c", EAT.format(150)),
    "in-files": (*RUN, "--memory", "60m", "--", "sh", "-c", "head -c 150M /dev/zero >/dev/shm/x; echo written"),
    "half": (*RUN, "--cpus", "0.5", "--", "python3", "-c", SPIN),
    "whole": (*RUN, "--", "python3", "-c", SPIN),
    "few": (*RUN, "--pids-limit", "20", "--", "python3", "-c", FORK),
    "many": (*RUN, "--", "python3", "-c", FORK),
    "around": (
        *("sh", "-c", f'echo 500M >{GROUP}/memory.max; "$@"; echo max >{GROUP}/memory.max'),
        *("sh", *RUN, "--dry-run", "--json", "true"),
    ),
    "told": ("sh", "-c", f"{SB} run -q --status-fd 3 --memory 60m -- python3 -c '{EAT.format(150)}' 3>&1"),
    "killed": ("sh", "-c", KILLED),
    "left": ("find", GROUP, "-type", "d", "-name", "sb-*"),
    "doctor": (str(SB), "doctor", "--json"),
}


SOME = ("where", "inspected", "too-much", "half", "told", "left", "doctor")


@pytest.fixture(scope="module")
def subtree(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """How the commands have ended where a part of the hierarchy is the user's."""
    return user_mode.run(tmp_path_factory.mktemp("machine"), COMMANDS)


@pytest.fixture(scope="module")
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """How some of them have ended where the user has a systemd."""
    some = {name: COMMANDS[name] for name in SOME}
    return user_mode.run(tmp_path_factory.mktemp("machine"), some, manager=True)


@pytest.fixture(params=["subtree", "systemd"])
def ends(request: pytest.FixtureRequest) -> Ends:
    """Both, one after the other."""
    found: Ends = request.getfixturevalue(request.param)
    return found


def test_the_sandbox_is_in_a_group_of_its_own(ends: Ends) -> None:
    """Inside it is the root of all groups, and inspect names it for what it holds."""
    assert "0::/\n" == ends["where"].stdout, ends["where"].stderr
    (known,) = json.loads(ends["inspected"].stdout)["sandboxes"]
    assert ["control group"] == known["limits"]["memory"]["held_by"]
    assert ["control group", "RLIMIT_NPROC"] == known["limits"]["pids"]["held_by"]
    assert ["control group"] == known["limits"]["running"]["held_by"]
    assert ["overlay"] == known["limits"]["disk"]["held_by"]


def test_memory(ends: Ends, subtree: Ends) -> None:
    """Who uses more than --memory is ended with 137 and that reason; who doesn't isn't."""
    assert (137, "") == (ends["too-much"].returncode, ends["too-much"].stdout)
    assert "it used more than its limit of memory" in ends["too-much"].stderr
    assert "memory" == json.loads(ends["told"].stdout.splitlines()[-1])["reason"]
    assert 0 == subtree["enough"].returncode, subtree["enough"].stderr


def test_files_in_memory(subtree: Ends) -> None:
    """They count."""
    assert (137, "") == (subtree["in-files"].returncode, subtree["in-files"].stdout)


def test_the_default_is_what_the_groups_around_leave(subtree: Ends) -> None:
    """Of memory it is nine tenths of what the caller's own groups allow, if that is less than the machine has."""
    limits = json.loads(subtree["around"].stdout)["plan"]["limits"]
    assert 300_000_000 < limits["memory"] <= 0.9 * 500 * (1 << 20)


def test_processors(ends: Ends, subtree: Ends) -> None:
    """--cpus 0.5 is half of one's time for all processes together; without it they have what there is."""
    half, whole = int(ends["half"].stdout), int(subtree["whole"].stdout)
    assert half < 0.75 * whole, ends["half"].stderr
    assert 20 <= half <= 65


def test_processes(subtree: Ends) -> None:
    """--pids-limit bounds their number."""
    assert 10 < int(subtree["few"].stdout) <= 20
    assert "60\n" == subtree["many"].stdout


def test_nothing_is_left(ends: Ends) -> None:
    """The groups of sandboxes that have ended are gone."""
    assert "" == ends["left"].stdout


def test_what_a_killed_watcher_leaves(subtree: Ends) -> None:
    """Its sandbox's group is removed by the next run."""
    assert ["1", "0"] == subtree["killed"].stdout.split(), subtree["killed"].stderr


def test_doctor_finds_it(ends: Ends) -> None:
    """sb doctor says that a control group can be had."""
    (found,) = (each for each in json.loads(ends["doctor"].stdout)["checks"] if each["id"] == "cgroups")
    assert (True, "") == (found["ok"], found["why"])
