"""Sandboxes that are kept: listed, described, removed; and names."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.running import PATIENCE, eventually, stdout_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


def listed(sb: Sandboxes, *arguments: str) -> list[dict[str, Any]]:
    """What `sb ps --json` lists of this test's own sandboxes."""
    document = json.loads(sb.command("ps", "--json", *arguments).stdout)
    assert 1 == document["schema"]
    described = {each["id"] for each in document["sandboxes"]}
    own = {path.name for path in (*store(sb).glob("*"), *sb.layers.glob("*"))}
    return [each for each in document["sandboxes"] if each["id"] in described & own]


def store(sb: Sandboxes) -> Path:
    """Where sandboxes that are kept lie."""
    return sb.layers.parent / "data" / "sb" / "sandboxes"


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
    assert 0 == sb.command("rm", "box").returncode


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
    "point", ["directory-made", "state-written", "directory-named", "start-unnoted", "unmounted", "end-unnoted"]
)
def test_killed_at_any_step_of_a_run(sb: Sandboxes, point: str) -> None:
    """Whatever step of a kept run is cut short: the next command reads it right, and its name can be had again."""
    sb("--name", "box", "true", variables={"SB_FAULT": point})
    assert [] == [each for each in listed(sb, "-a") if each["status"] not in ("lost", "exited")]
    if listed(sb, "-a"):
        assert 0 == sb.command("rm", "box").returncode
    assert 0 == sb("--name", "box", "true").returncode
    assert ["exited"] == [each["status"] for each in listed(sb, "-a")]


@pytest.mark.parametrize("point", ["removal-begun", "layer-removed"])
def test_killed_at_any_step_of_a_removal(sb: Sandboxes, point: str) -> None:
    """A removal that was cut short is a removal: the name is free, and nothing is listed."""
    sb("--name", "box", "--", "touch", "/etc/x")
    assert -signal.SIGKILL == sb.command("rm", "box", fault=point).returncode
    assert [] == listed(sb, "-a")
    assert 0 == sb("--name", "box", "true").returncode
