"""Which module of fuse_overlay may import what."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "fuse_overlay"
MODULES = sorted(PACKAGE.rglob("*.py"))

# The adapter, the loop, the process and the command; all else runs without FUSE.
FUSE = {"libfuse.py", "operations.py", "audited.py", "loop.py", "threads.py", "server.py", "cli.py"}
PURE = {
    "acl.py",
    "config.py",
    "creation.py",
    "errors.py",
    "index.py",
    "initmessage.py",
    "inodes.py",
    "merge.py",
    "options.py",
    "ownership.py",
    "policy.py",
    "quota.py",
    "whiteout.py",
    "xattrs.py",
}
# What a module that only decides may take from the outside: names and numbers, no system calls but os.path and such.
PLAIN = {"__future__", "errno", "fuse_overlay", "marshal", "os", "re", "stat", "struct", "typing", "zlib"}


def imported(path: Path) -> set[str]:
    """The modules that a file imports when it runs, not those for the type checker alone."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        waiting += ast.iter_child_nodes(node)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_who_imports_what(path: Path) -> None:
    """Nothing knows the sandbox, FUSE stays in few modules, ctypes in kernel/, and pure modules are pure.

    pyfuse3 is had from libfuse.py only, which loads the helper before it.
    """
    names = imported(path)
    tops = {name.partition(".")[0] for name in names}
    forbidden = {"rootless_sb", "logging", "dataclasses", "subprocess", "argparse"}
    if path.name not in FUSE:
        assert "fuse_overlay.libfuse" not in names
        forbidden |= {"trio"}
    if path.name != "libfuse.py":
        forbidden |= {"pyfuse3"}
    if path.parent.name != "kernel":
        forbidden |= {"ctypes"}
    assert set() == tops & forbidden
    if path.name in PURE:
        assert set() == tops - PLAIN


def test_the_configuration_is_cheap() -> None:
    """Who only prepares a configuration loads neither FUSE nor trio."""
    script = "import sys, fuse_overlay.config; print({'trio', 'pyfuse3', 'ctypes'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert "set()\n" == result.stdout
