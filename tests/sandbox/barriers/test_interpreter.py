"""Attack: overwriting the Python that runs sb, where the user owns it, through /proc/self/exe. Barrier: Landlock.

A program whose interpreter is /proc/self/exe makes pid 1's child execute its own program, the host's Python, which can
then be opened again for writing (CVE-2019-5736). That nobody can write to a program that runs, as sb's pid 1 does for
as long as the sandbox lives, is the only other thing that stands in the way.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rootless_sb
from tests.sandbox.barriers.attackers import require_landlock

if TYPE_CHECKING:
    from tests.sandbox.running import Sandboxes

# Executed by the copy of Python: it opens its own program and has another program write to it, which no longer runs it.
OVERWRITE = """
import os, sys
descriptor = os.open("/proc/self/exe", os.O_RDONLY)
print("opened", flush=True)
os.set_inheritable(descriptor, True)
os.execv("/bin/sh", ["sh", "-c", f"sleep 0.5; echo overwritten >/proc/self/fd/{descriptor} && echo done"])
"""


@pytest.fixture
def own_python(tmp_path: Path) -> Path:
    """A Python that the user owns, with sb in reach."""
    python = tmp_path / "python3"
    shutil.copy(os.path.realpath(sys.executable), python)
    return python


def run_sb(sb: Sandboxes, python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `sb run` by that Python."""
    paths = [str(Path(rootless_sb.__file__).parents[1]), *(path for path in sys.path if "site-packages" in path)]
    start = f"import sys; sys.path[:0] = {paths!r}; from rootless_sb.cli.__main__ import main; main()"
    return subprocess.run(
        [python, "-I", "-c", start, "run", *arguments],
        env={**sb.environment, "PYTHONHOME": sys.base_prefix},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_interpreter_cannot_be_executed_or_overwritten(sb: Sandboxes, own_python: Path, tmp_path: Path) -> None:
    """A script with `#!/proc/self/exe` isn't run; the user's Python stays what it was."""
    require_landlock(2)
    before = own_python.read_bytes()
    script = tmp_path / "script"
    script.write_text(f"#!/proc/self/exe -I\n{OVERWRITE}")
    script.chmod(0o755)
    done = run_sb(sb, own_python, "-q", "--", str(script))
    assert (126, "") == (done.returncode, done.stdout)
    assert before == own_python.read_bytes()
    done = run_sb(sb, own_python, "-q", "--allow-degraded=landlock", "--", str(script))
    assert done.stdout.startswith("opened\n"), "the control: without Landlock it runs"


def test_the_control(own_python: Path) -> None:
    """Outside, the same program overwrites its own Python."""
    done = subprocess.run([own_python, "-I", "-c", OVERWRITE], capture_output=True, text=True, check=False)
    assert "opened\ndone\n" == done.stdout, done.stderr
    assert b"overwritten\n" == own_python.read_bytes()[:12]
