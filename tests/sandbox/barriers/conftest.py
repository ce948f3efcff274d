"""Attackers: programs that run in a sandbox, by `sb run` and once more by `sb exec`, and outside as the control."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox.barriers.attackers import Attacker

if TYPE_CHECKING:
    from tests.sandbox.running import Sandboxes


@pytest.fixture(params=["run", "exec"])
def attacker(sb: Sandboxes, request: pytest.FixtureRequest) -> Attacker:
    """An attacker that sits in a sandbox as its command, and one that `sb exec` has let in."""
    return Attacker(sb, by_exec=request.param == "exec")
