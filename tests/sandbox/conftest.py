"""Sandboxes for the tests here, which run `sb run` on the real kernel as an ordinary user."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import prctl
import pytest

from rootless_sb.kernel.processes import has_pidfds
from tests.sandbox.agents import Agent
from tests.sandbox.running import Sandboxes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session", autouse=True)
def _subreaper() -> Iterator[None]:
    """What a sandbox leaves running becomes a child of ours, so that it can be found."""
    prctl.set_child_subreaper(1)
    yield
    prctl.set_child_subreaper(0)


@pytest.fixture
def sb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandboxes]:
    """Runs `sb run`; afterwards nothing of what was run may be left."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse can't be opened here")
    sandboxes = Sandboxes(tmp_path_factory.mktemp("layers"))
    yield sandboxes
    sandboxes.close()
    assert [] == sandboxes.left_behind(within=2.0)


@pytest.fixture
def program() -> Callable[[str], Path]:
    """`program(NAME)`: the path of a program that the test needs."""

    def find(name: str) -> Path:
        path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if path is None:
            pytest.skip(f"{name} isn't installed")
        return Path(path)

    return find


@pytest.fixture
def unstarted(sb: Sandboxes, tmp_path: Path) -> Iterator[Agent]:
    """No agent yet."""
    if not has_pidfds():
        pytest.skip("the kernel has no pidfd_open(2)")
    made = Agent(sb, tmp_path)
    yield made
    made.close()


@pytest.fixture
def agent(unstarted: Agent) -> Agent:
    """An agent that waits for callers."""
    unstarted.start()
    return unstarted
