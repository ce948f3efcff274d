"""One run after another, and many at once: nothing grows, and each ends well."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sandbox.running import PATIENCE

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


def test_short_ones_at_once(sb: Sandboxes, count: Count) -> None:
    """With many more sandboxes than processors, a command that ends at once ends well all the same."""
    for _ in range(count(10, 100)):
        runs = [sb.start("-q", "--", "true") for _ in range(12)]
        said = [run.communicate(timeout=PATIENCE)[1] for run in runs]
        assert [(0, b"")] * 12 == [(run.returncode, errors) for run, errors in zip(runs, said, strict=True)]
