"""Ordinary programs and builds run under the defaults as they do outside, limits and barriers and all.

Each is a script of bash's in `programs`, which says what it needs and what it prints, and `--userns` if it can't be
root's. (More of them, of what barriers must not break, in barriers/test_programs.py; package managers in
test_packages.py.)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.running import Sandboxes

SCRIPTS = Path(__file__).parent / "programs"


def headers(script: str, name: str) -> list[str]:
    """What the script's first lines say of `name`."""
    begin = f"# {name}: "
    return [line.removeprefix(begin) for line in script.splitlines() if line.startswith(begin)]


def run(sb: Sandboxes, place: Path, path: Path, program: Callable[[str], Path]) -> None:
    """Run a script in a directory of its own in a sandbox, and compare what it prints. The host has none of it."""
    script = path.read_text()
    for needed in " ".join(headers(script, "needs")).split():
        program(needed)
    said = "".join(f"{line}\n" for line in headers(script, "says"))
    shell = ("bash", "-c", f"set -e; python={sys.executable}; mkdir work; cd work\n{script}")
    done = sb("-q", "-w", str(place), *headers(script, "options"), "--", *shell)
    assert (0, said) == (done.returncode, done.stdout), done.stderr
    assert [] == list(place.iterdir())


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("quick/*.sh")), ids=lambda path: path.stem)
def test_quick_ones(sb: Sandboxes, tmp_path: Path, program: Callable[[str], Path], path: Path) -> None:
    """It does its work, and the host has none of it."""
    run(sb, tmp_path, path, program)


@pytest.mark.long
@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("large/*.sh")), ids=lambda path: path.stem)
def test_large_ones(sb: Sandboxes, tmp_path: Path, program: Callable[[str], Path], path: Path) -> None:
    """It does its work, and the host has none of it."""
    run(sb, tmp_path, path, program)
