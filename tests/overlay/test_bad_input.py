"""Directories that no overlay can be made of: one line names the option and the path, and nothing has happened."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

IN_NAMESPACE = ("unshare", "-Urm", "--propagation", "private")
COMMAND = (sys.executable, "-m", "fuse_overlay.cli")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory with all that an overlay needs, and a file that is no directory."""
    for name in ("lower", "lower/in", "upper", "upper/in", "work", "work/in", "merged", "closed"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("lower")
    return tmp_path


def tree(top: Path) -> list[tuple[str, int, int]]:
    """Every path below a directory, with its mode and the time of its last change."""
    return sorted((str(path), path.lstat().st_mode, path.lstat().st_mtime_ns) for path in top.rglob("*"))


def run(base: Path, options: str, mountpoint: str, script: str = '"$@"') -> subprocess.CompletedProcess[str]:
    """Run the command, as "$@" of a shell script, in `base` and in a user namespace, where mounting succeeds."""
    return subprocess.run(
        [*IN_NAMESPACE, "sh", "-c", script, "sh", *COMMAND, "-o", options, mountpoint],
        cwd=base, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def mount(base: Path, options: str, mountpoint: str) -> tuple[int, str, str]:
    """Run the command. Returns its status, its errors, and the mounts that it left below `base`."""
    script = '"$@"; status=$?; grep -F "$PWD/" /proc/self/mountinfo && umount merged lower 2>/dev/null; exit $status'
    result = run(base, options, mountpoint, script)
    return result.returncode, result.stderr, result.stdout


@pytest.mark.parametrize(
    ("options", "mountpoint", "message"),
    [
        ("lowerdir=none", "merged", "cannot open lowerdir none: No such file or directory"),
        ("lowerdir=lower:none", "merged", "cannot open lowerdir none: No such file or directory"),
        ("lowerdir=file", "merged", "cannot open lowerdir file: Not a directory"),
        ("lowerdir=lower,upperdir=none,workdir=work", "merged", "cannot open upperdir none: No such file or directory"),
        ("lowerdir=lower,upperdir=upper,workdir=none", "merged", "cannot open workdir none: No such file or directory"),
        ("lowerdir=lower", "none", "cannot open mountpoint none: No such file or directory"),
        ("lowerdir=lower", "file", "cannot open mountpoint file: Not a directory"),
        ("lowerdir=lower,upperdir=lower,workdir=work", "merged", "upperdir lower is also lowerdir lower"),
        ("lowerdir=lower,upperdir=link,workdir=work", "merged", "upperdir link is also lowerdir lower"),
        ("lowerdir=lower,upperdir=lower/in,workdir=work", "merged", "upperdir lower/in lies in lowerdir lower"),
        ("lowerdir=lower:upper/in,upperdir=upper,workdir=work", "merged", "lowerdir upper/in lies in upperdir upper"),
        ("lowerdir=lower,upperdir=upper,workdir=upper", "merged", "workdir upper is also upperdir upper"),
        ("lowerdir=lower,upperdir=upper,workdir=upper/in", "merged", "workdir upper/in lies in upperdir upper"),
        ("lowerdir=lower,upperdir=work/in,workdir=work", "merged", "upperdir work/in lies in workdir work"),
        ("lowerdir=lower,upperdir=upper,workdir=lower/in", "merged", "workdir lower/in lies in lowerdir lower"),
        ("lowerdir=lower", "lower/in", "mountpoint lower/in lies in lowerdir lower"),
        ("lowerdir=lower,upperdir=upper,workdir=work", "upper/in", "mountpoint upper/in lies in upperdir upper"),
    ],
)  # fmt: skip
def test_directories_that_cannot_be(base: Path, options: str, mountpoint: str, message: str) -> None:
    """Missing or overlapping directories are an error, status 1; nothing is mounted and nothing written."""
    before = tree(base)
    assert (1, f"fuse-overlay: {message}\n", "") == mount(base, options, mountpoint)
    assert before == tree(base)


def test_good_directories_are_mounted(base: Path) -> None:
    """The positive control: with directories that lie apart the same command mounts, over the lower one too."""
    for mountpoint in ("merged", "lower"):
        status, errors, mounts = mount(base, "lowerdir=lower,upperdir=upper,workdir=work", mountpoint)
        assert (0, "") == (status, errors)
        assert f" {base}/{mountpoint} " in mounts


def test_the_same_directory_by_a_bind_mount(base: Path) -> None:
    """An upper that lies in a lower under another name is found out."""
    script = '(mount --bind lower merged; "$@"); echo $?'
    result = run(base, "lowerdir=merged,upperdir=lower/in,workdir=work", "closed", script)
    assert ("fuse-overlay: upperdir lower/in lies in lowerdir merged\n", "1\n") == (result.stderr, result.stdout)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("lowerdir=lower:closed", "cannot open lowerdir {base}/closed: Permission denied"),
        ("lowerdir=lower,upperdir=closed,workdir=work", "cannot open upperdir {base}/closed: Permission denied"),
        ("lowerdir=lower,upperdir=upper,workdir=closed", "cannot open workdir {base}/closed: Permission denied"),
    ],
)
def test_directories_that_are_closed(base: Path, options: str, message: str) -> None:
    """A layer without read or search permission is an error, and no empty layer."""
    os.chmod(base / "closed", 0)
    before = tree(base)
    result = subprocess.run(
        [*COMMAND, "-o", options, "merged"], cwd=base, capture_output=True, text=True, check=False, timeout=60
    )
    assert (1, f"fuse-overlay: {message.format(base=base)}\n") == (result.returncode, result.stderr)
    assert before == tree(base)


def test_an_upper_that_cannot_be_written(base: Path) -> None:
    """It is said at once, and not by the first program that writes."""
    os.chmod(base / "closed", 0o500)
    result = subprocess.run(
        [*COMMAND, "-o", "lowerdir=lower,upperdir=closed,workdir=work", "merged"],
        cwd=base, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (1, f"fuse-overlay: cannot write to upperdir {base}/closed\n") == (result.returncode, result.stderr)


def test_a_work_directory_on_another_file_system(base: Path) -> None:
    """Nothing could be renamed from there into the upper."""
    script = 'mount -t tmpfs tmpfs work; "$@"; echo $?; ls -A work'
    result = run(base, "lowerdir=lower,upperdir=upper,workdir=work", "merged", script)
    assert f"fuse-overlay: workdir {base}/work is not on the file system of upperdir {base}/upper\n" == result.stderr
    assert "1\n" == result.stdout
