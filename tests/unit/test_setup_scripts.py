"""The console scripts that the set-up writes: contrib/setup/console_scripts.py."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from console_scripts import script

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("folder", ["plain", "with space", "it's", "long" * 60])
def test_script_runs_python_at_any_path(tmp_path: Path, folder: str) -> None:
    """The script passes its arguments and the exit status, wherever its Python lies."""
    (tmp_path / folder).mkdir()
    python = tmp_path / folder / "python"
    python.symlink_to(sys.executable)
    path = tmp_path / folder / "command"
    path.write_text(script(str(python), "platform", "node").replace("node()", "__import__('sys').argv[1:] != ['a b']"))
    path.chmod(0o755)

    assert subprocess.run([path, "a b"], check=False).returncode == 0
    assert subprocess.run([path, "a", "b"], check=False).returncode == 1


def test_script_ignores_the_callers_python_settings(tmp_path: Path) -> None:
    """A module on PYTHONPATH isn't taken for one of Python's own."""
    (tmp_path / "platform.py").write_text("raise SystemExit('the wrong module')\n")
    path = tmp_path / "command"
    path.write_text(script(sys.executable, "platform", "python_branch"))
    path.chmod(0o755)

    done = subprocess.run([path], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)

    assert "the wrong module" not in done.stderr


def test_script_imports_nothing_of_its_own() -> None:
    """A start pays for sb's modules only."""
    text = script("/usr/bin/python3", "package.module", "main")

    assert text.splitlines() == [
        "#!/usr/bin/python3 -I",
        "from package.module import main",
        "",
        "raise SystemExit(main())",
    ]
