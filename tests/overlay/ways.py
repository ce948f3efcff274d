"""How a test's work is done: by a Python program in the mount, and with the compiled helper or without."""

from __future__ import annotations

import pytest

from fuse_overlay.kernel.shortcut import SHORTCUT, VARIABLE

WAYS = ("helper", "python")


def python(program: str) -> str:
    """A shell command that runs a Python program."""
    return f"python3 - <<'END'\n{program}\nEND\n"


def needs_helper() -> None:
    """Skip the test if there is no helper."""
    if not SHORTCUT.loaded:
        pytest.skip("no compiled helper: no compiler at the installation, or it was switched off")


def take(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the helper answer what it can, or Python alone, as WAYS has them. Skips the test if there is no helper."""
    if way == "python":
        monkeypatch.setenv(VARIABLE, "off")
    else:
        needs_helper()
