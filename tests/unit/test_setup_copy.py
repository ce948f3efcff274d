"""The copy of the checkout that root makes for the tests' user: contrib/setup/checkout_copy.py."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from checkout_copy import names_by_git, names_by_walk, read_files, write_files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what belongs to a project and what doesn't."""
    checkout = tmp_path / "checkout"
    for name in (".ci/run", ".gitignore", "package/module.py", "package/__pycache__/module.pyc", ".venv/pyvenv.cfg"):
        path = checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (checkout / ".gitignore").write_text("__pycache__/\n/.venv/\n")
    (checkout / ".ci/run").chmod(0o755)
    (checkout / "link").symlink_to("package/module.py")
    return checkout


OURS = [".ci/run", ".gitignore", "link", "package/module.py"]


def test_walk_finds_what_belongs_to_the_project(checkout: Path) -> None:
    """Without git the names decide."""
    assert names_by_git(checkout) is None
    assert names_by_walk(checkout) == OURS


def test_git_names_tracked_and_new_files(checkout: Path) -> None:
    """With git its ignore rules decide, and a file need not be committed."""
    if shutil.which("git") is None:
        pytest.skip("git isn't installed")
    subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
    subprocess.run(["git", "add", "package/module.py"], cwd=checkout, check=True)

    assert names_by_git(checkout) == OURS


def test_copy_is_like_the_original(checkout: Path, tmp_path: Path) -> None:
    """Contents, times, links and the right to execute are kept."""
    copy = tmp_path / "copy"
    write_files(copy, read_files(checkout, OURS))

    assert (copy / "package/module.py").read_text() == "package/module.py"
    assert (copy / "package/module.py").stat().st_mtime_ns == (checkout / "package/module.py").stat().st_mtime_ns
    assert (copy / ".ci/run").stat().st_mode & 0o777 == 0o755
    assert (copy / "link").readlink() == (checkout / "link").readlink()


def test_second_copy_removes_what_is_gone_and_nothing_else(checkout: Path, tmp_path: Path) -> None:
    """A file that left the checkout leaves the copy; what the user made there stays."""
    copy = tmp_path / "copy"
    write_files(copy, read_files(checkout, OURS))
    (copy / ".venv").mkdir()
    (copy / ".venv/kept").touch()
    (checkout / "link").unlink()
    write_files(copy, read_files(checkout, OURS))

    assert not (copy / "link").is_symlink()
    assert (copy / ".venv/kept").exists()
    assert (copy / "package/module.py").exists()


def test_copy_replaces_a_planted_symlink(checkout: Path, tmp_path: Path) -> None:
    """A symlink in the place of a file is replaced and not followed."""
    copy, victim = tmp_path / "copy", tmp_path / "victim"
    victim.write_text("untouched")
    copy.mkdir()
    (copy / ".gitignore").symlink_to(victim)
    write_files(copy, read_files(checkout, OURS))

    assert victim.read_text() == "untouched"
    assert not (copy / ".gitignore").is_symlink()


def test_folder_and_file_may_change_places(checkout: Path, tmp_path: Path) -> None:
    """A folder that became a file, and the other way round, are copied."""
    copy = tmp_path / "copy"
    write_files(copy, read_files(checkout, OURS))
    shutil.rmtree(checkout / "package")
    (checkout / "package").write_text("now a file")
    (checkout / "link").unlink()
    (checkout / "link").mkdir()
    (checkout / "link/file").write_text("now in a folder")
    write_files(copy, read_files(checkout, names_by_walk(checkout)))

    assert (copy / "package").read_text() == "now a file"
    assert (copy / "link/file").read_text() == "now in a folder"
