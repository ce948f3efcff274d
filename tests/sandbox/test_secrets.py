"""Keys, tokens and the like of the user's, hidden unless they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.running import Sandboxes

HIDDEN = (".ssh/id_ed25519", ".aws/credentials", ".netrc", ".config/gh/hosts.yml", ".claude/x", ".bash_history")


@pytest.fixture
def home(sb: Sandboxes, tmp_path: Path) -> Path:
    """A home with secrets, and something that is none."""
    for name in (*HIDDEN, ".config/other", "notes"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"secret of {name}\n")
    sb.environment["HOME"] = str(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", HIDDEN)
def test_a_secret_is_not_there(sb: Sandboxes, home: Path, name: str) -> None:
    """The file isn't found, by its name, in a listing or by a link; with --show it is."""
    top = home / name.split("/", 1)[0] if not name.startswith(".config") else home / ".config/gh"
    script = f"cat {home}/{name}; ls -A {top.parent}; ln {home}/{name} {home}/link"
    (top.parent / "plain").touch()
    done = sb("sh", "-c", script)
    assert "secret of" not in done.stdout
    assert top.name not in done.stdout.split()
    assert "plain" in done.stdout.split()
    assert done.stderr.count("No such file or directory") >= 2
    assert f"secret of {name}\n" == sb("--show", str(top), "cat", f"{home}/{name}").stdout


def test_what_is_no_secret_is_there(sb: Sandboxes, home: Path) -> None:
    """Beside the hidden ones, all is as it was."""
    assert "secret of notes\nsecret of .config/other\n" == sb("cat", f"{home}/notes", f"{home}/.config/other").stdout


def test_one_of_its_own_can_be_made(sb: Sandboxes, home: Path) -> None:
    """A sandbox may have a key of its own at a hidden place; the user's stays as it is."""
    script = f"mkdir {home}/.ssh && echo mine >{home}/.ssh/id_ed25519 && cat {home}/.ssh/id_ed25519; ls -A {home}/.ssh"
    assert "mine\nid_ed25519\n" == sb("sh", "-c", script).stdout
    assert "secret of .ssh/id_ed25519\n" == (home / ".ssh/id_ed25519").read_text()


def test_part_of_a_secret(sb: Sandboxes, home: Path) -> None:
    """A file in a hidden directory can't be shown alone; the hint says what can."""
    refused = sb("--show", f"{home}/.ssh/config", "true")
    assert (125, True) == (refused.returncode, f"hint: --show {home}/.ssh\n" in refused.stderr)
