"""The tree shows the architecture: who may import what, and how large a piece may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*CHECKOUT.glob("rootless_sb/**/*.py"), *CHECKOUT.glob("fuse_overlay/**/*.py")])
# Modules that only decide: no operating system in them.
PURE = (
    *("accounts", "ending", "errors", "fields", "maps", "paths", "plan", "program", "protocol", "requirements", "root"),
    *("spec", "state", "stdio", "steps"),
    *(f"security/{path.stem}" for path in CHECKOUT.glob("rootless_sb/security/*.py")),
    *("image/challenge", "image/entries", "image/hosts", "image/manifest", "image/platform", "image/record"),
    *("image/reference", "image/running"),
    *("review/actions", "review/changes", "review/choosing", "review/conflicts", "review/leftovers"),
    *("review/mountpoints", "review/obstacles", "review/owners", "review/risks", "review/roots"),
)


def imports(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_the_overlay_stands_alone() -> None:
    """fuse_overlay imports nothing of rootless_sb."""
    for path in CHECKOUT.glob("fuse_overlay/**/*.py"):
        assert not [name for name in imports(path) if name.startswith("rootless_sb")], path


def test_system_calls_live_in_kernel_folders() -> None:
    """ctypes, ioctls and prctl are used nowhere else."""
    for path in SOURCES:
        if path.parent.name != "kernel":
            assert not imports(path) & {"ctypes", "fcntl", "termios", "prctl", "_prctl"}, path


@pytest.mark.parametrize("name", PURE)
def test_deciding_modules_call_nothing(name: str) -> None:
    """A module that decides imports neither the means to start processes nor those to open files."""
    forbidden = {"subprocess", "socket", "select", "shutil", "pathlib"}
    assert not imports(CHECKOUT / "rootless_sb" / f"{name}.py") & forbidden


def test_kernel_modules_decide_nothing() -> None:
    """kernel/ imports nothing of sb but kernel/, and what named tuples are made by."""
    for path in CHECKOUT.glob("rootless_sb/kernel/*.py"):
        own = {name for name in imports(path) if name.startswith(("rootless_sb", "fuse_overlay"))}
        assert not [name for name in own if not name.startswith(("rootless_sb.kernel", "fuse_overlay.tuples"))], path


def test_sizes() -> None:
    """No file over 500 lines, no function over 60."""
    for path in SOURCES:
        text = path.read_text()
        assert text.count("\n") <= 500, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or node.lineno) - node.lineno < 60, f"{path}:{node.lineno} {node.name}"


def test_named_tuples_are_made_quickly() -> None:
    """Nothing takes typing's NamedTuple."""
    assert [] == [path for path in SOURCES if path.name != "tuples.py" and "typing.NamedTuple" in imports(path)]


def test_the_waiting_process_imports_nothing_heavy() -> None:
    """What `sb run` imports before and after its fork: none of the modules that cost more than they bring."""
    program = (
        "import sys\n"
        "from rootless_sb.cli import __main__, run, exec, lookup, parsing, environment\n"
        "from rootless_sb import supervisor, plan, host, sandboxes, overlay_server, watcher, init, target, builder\n"
        "from rootless_sb import execution\n"
        "from rootless_sb.ui import messages\n"
        "from rootless_sb.image import basing, store, surroundings\n"
        "print(*sys.modules)\n"
    )
    found = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\n{program}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    heavy = {"trio", "pyfuse3", "logging", "dataclasses", "inspect", "subprocess", "asyncio", "json", "pathlib"}
    heavy |= {"shutil", "tempfile", "difflib", "tomllib", "ssl", "email", "http.client", "rich", "httpx"}
    assert set() == heavy & set(found)


def test_a_server_imports_nothing_that_it_has_no_use_for() -> None:
    """Neither trio, where it has one task only, nor what pyfuse3 reads its own version with."""
    program = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\nfrom fuse_overlay import server\nprint(*sys.modules)"
    command = [sys.executable, "-I", "-c", program]
    found = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert "pyfuse3" in found
    assert set() == {"trio", "importlib.metadata", "asyncio", "inspect", "email"} & found
