"""One run after another: nothing grows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Count
    from tests.sandbox.running import Sandboxes


def what_could_grow() -> dict[str, int]:
    """Counts of what a run uses and has to give back."""
    return {
        "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "connections": len(os.listdir("/sys/fs/fuse/connections")) if os.path.isdir("/sys/fs/fuse/connections") else 0,
    }


def test_runs_leave_nothing_behind(sb: Sandboxes, count: Count) -> None:
    """A thousand runs later there are as many mounts, FUSE connections and descriptors as before, and no layer."""
    before = what_could_grow()
    for number in range(count(15, 1000)):
        assert f"{number}\n" == sb("-q", "--", "sh", "-c", f"echo {number} | tee /tmp/here").stdout
    assert before == what_could_grow()
