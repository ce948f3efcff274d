"""The server is killed while programs work on its mount; the layer is mounted again."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.overlay import kill_here

if TYPE_CHECKING:
    from tests.conftest import Count
    from tests.overlay.conftest import Mounted

KILL_HERE = Path(kill_here.__file__)


def plant(lower: Path) -> None:
    """Version 0 of what the programs work on."""
    (lower / "files").mkdir()
    for number in range(kill_here.FILES):
        (lower / "files" / f"f{number}").write_bytes(kill_here.payload(0, 10_000))
    base = sqlite3.connect(lower / "base")
    base.execute("create table t (a)")
    base.commit()
    base.close()
    (lower / "repository").mkdir()
    (lower / "repository" / "file").write_text("0\n")
    for command in (("init", "-q", "-b", "master"), ("add", "file"), ("commit", "-qm", "first")):
        subprocess.run((*kill_here.GIT, *command), check=True, cwd=lower)


def test_killed_at_random(mounted: Mounted, count: Count) -> None:
    """Each file is a whole version and not an older one, a database and a repository are sound, round after round."""
    plant(mounted.lower)
    places = (mounted.lower, mounted.upper, mounted.work, mounted.merged)
    command = ["unshare", "-Urm", sys.executable, str(KILL_HERE), *map(str, places), str(count(20, 500)), "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
    assert (0, "") == (result.returncode, result.stderr if result.returncode else "")
    assert " 0 versions" not in result.stdout
