"""A sandbox's directory: once it is decided that it isn't kept, nobody writes there any more."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from rootless_sb import sandboxes, state
from rootless_sb.kernel import trees
from rootless_sb.spec import RunSpec

if TYPE_CHECKING:
    from pathlib import Path

    from rootless_sb.sandboxes import Sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    """A new one, which isn't kept."""
    record = state.State(sandboxes.new_id(), "", False, state.CREATED, 0, RunSpec(), ("true",), "/", ())
    return sandboxes.create(record, (str(tmp_path),), str(tmp_path / "store"), os.getuid())


def test_nothing_is_written_to_what_is_about_to_be_removed(sandbox: Sandbox) -> None:
    """Of a short command the start may be noted late; before the decision it can be, and the sandbox be kept."""
    sandboxes.update(sandbox.own, lambda old: old._replace(status=state.RUNNING))
    assert state.RUNNING == sandboxes.read(sandbox.own).status
    assert not sandboxes.settle(sandbox, discard=False)
    before = sorted(os.listdir(sandbox.own))
    with pytest.raises(FileNotFoundError):
        sandboxes.update(sandbox.own, lambda old: old._replace(status=state.RUNNING))
    assert sandboxes.keep(sandbox.own, "box") is None
    assert (before, False) == (sorted(os.listdir(sandbox.own)), sandboxes.is_kept(sandbox.own))
    assert state.REMOVING == sandboxes.read(sandbox.own).status
    sandboxes.remove(sandbox, os.getuid())


def test_what_is_kept_in_time_stays(sandbox: Sandbox) -> None:
    """Whoever has it kept before the decision has it."""
    kept = sandboxes.keep(sandbox.own, "box")
    assert kept is not None
    assert (True, "box") == (kept.kept, kept.name)
    assert sandboxes.settle(sandbox, discard=False)
    sandbox.close()


def test_a_removed_one_is_not_begun_again(sandbox: Sandbox) -> None:
    """Who still has its directory open finds that it is gone, and makes nothing there."""
    own = os.dup(sandbox.own)
    trees.remove_others(own, "lock")  # the removal is under way
    with pytest.raises(FileNotFoundError):
        sandboxes.update(own, lambda old: old)
    assert ["lock"] == os.listdir(own)
    sandboxes.remove(sandbox, os.getuid())
    with pytest.raises(FileNotFoundError):
        sandboxes.update(own, lambda old: old)
    assert (None, False, []) == (sandboxes.keep(own, ""), sandboxes.is_kept(own), os.listdir(own))
    os.close(own)
