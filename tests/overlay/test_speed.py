"""That the overlay doesn't become slower, by a measure that the machine's speed and load hardly change."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.overlay.ways import needs_helper


def test_no_row_takes_twice_its_time_on_record() -> None:
    """Over fuse-overlayfs' time, everyday work takes less than twice what is on record, at one of three attempts."""
    if shutil.which("fuse-overlayfs") is None:
        pytest.skip("no fuse-overlayfs")
    needs_helper()
    command = [sys.executable, "-m", "tests.bench.overlay", "--check", "--place", "tmpfs"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    print(result.stdout)
    assert (0, "") == (result.returncode, result.stdout + result.stderr if result.returncode else "")
