"""`sb apply` when the host goes on meanwhile: what is a target changes, vanishes, becomes a symbolic link."""

from __future__ import annotations

import os
import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from fuse_overlay.kernel import paths
from tests.sandbox.reviewing import Stopped, change, diff, go_on, make_directory, snapshot, touched
from tests.sandbox.running import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host's."""
    made = make_directory(tmp_path / "host")
    yield made
    (made / "shut").chmod(0o700)


# Where an apply is stopped once or more before it is through.
ON_THE_WAY = ["apply-staging", "apply-file-staged", "apply-committing", "apply-action-done"]


@pytest.mark.parametrize("point", ON_THE_WAY)
def test_a_symlink_is_swapped_in(sb: Sandboxes, host: Path, tmp_path: Path, point: str) -> None:
    """A directory of the target's path that becomes a symbolic link meanwhile leads nowhere: all stays as it was."""
    change(sb, host, "echo two >file; echo x >mode/new; echo two >mode/inner; rm other")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "inner").write_text("mine\n")
    with Stopped(sb, point) as process:
        (host / "mode").rename(host / "aside")
        (host / "mode").symlink_to(elsewhere)
        said = go_on(process)
    assert said.startswith("sb: cannot ")
    assert "file\n" == (host / "file").read_text()
    assert (["inner"], "mine\n") == (os.listdir(elsewhere), (elsewhere / "inner").read_text())
    assert (host / "other").exists()
    (host / "mode").unlink()
    (host / "aside").rename(host / "mode")
    assert 0 == sb.command("apply", "box").returncode
    assert (["inner", "new"], "two\n") == (sorted(os.listdir(host / "mode")), (host / "mode/inner").read_text())
    assert "two\n" == (host / "file").read_text()
    assert not (host / "other").exists()


def test_a_symlink_from_the_start(sb: Sandboxes, host: Path, tmp_path: Path) -> None:
    """A directory that became a symbolic link between the run and the apply is a conflict, and isn't followed."""
    change(sb, host, "echo x >mode/new")
    (host / "mode").rename(tmp_path / "elsewhere")
    (host / "mode").symlink_to(tmp_path / "elsewhere")
    refused = sb.command("apply", "box")
    assert 125 == refused.returncode
    assert f"sb: conflict: {host}/mode: the host has changed it" in refused.stderr
    assert ["inner"] == os.listdir(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "act",
    [
        lambda host: (host / "file").write_text("changed now\n"),
        lambda host: (host / "file").unlink(),
        lambda host: (host / "new").mkdir(),
        lambda host: (host / "other").write_text("changed now\n"),
        lambda host: ((host / "other").unlink(), (host / "other").mkdir()),
    ],
)
def test_the_target_changes_meanwhile(sb: Sandboxes, host: Path, act: Callable[[Path], object]) -> None:
    """What comes between the look and the renaming is seen at the last moment: the host keeps its own, and all else."""
    change(sb, host, "echo two >file; rm other; mkdir new; rm gone/inner")
    with Stopped(sb, "apply-committing") as process:
        act(host)
        before = {name: what for name, what in snapshot(host).items() if ".sb-apply" not in name}
        said = go_on(process)
    assert said.startswith(f"sb: cannot apply {host}/")
    assert before == snapshot(host)
    again = sb.command("apply", "box")
    if (host / "new").is_dir():  # the host has done the same
        assert 0 == again.returncode
        return
    assert (125, True) == (again.returncode, "sb: conflict: " in again.stderr)
    assert before == snapshot(host)


@pytest.mark.parametrize("point", ["apply-staging", "apply-committing"])
@pytest.mark.parametrize(
    "act",
    [
        lambda host: (host / "gone/new").write_text("precious\n"),
        lambda host: (host / "gone/deep/down/new").write_text("precious\n"),
        lambda host: (host / "gone/inner").write_text("mine\n"),
        lambda host: (host / "gone/inner").chmod(0o600),
        lambda host: (host / "gone/deep/down").rmdir(),
        lambda host: (host / "mode/new").mkdir(),
        lambda host: os.utime(host / "link", (1, 1), follow_symlinks=False),  # the inode number is given again
        lambda host: os.utime(host / "pipe", (1, 1)),
    ],
)
def test_what_is_to_go_changes_meanwhile(
    sb: Sandboxes, host: Path, point: str, act: Callable[[Path], object]
) -> None:
    """A directory is looked through again when it is moved away, and other kinds of files are looked at again, too:
    what the host has put there since stays, with all else.
    """
    (host / "gone/deep/down").mkdir(parents=True)
    (host / "link").symlink_to("file")
    os.mkfifo(host / "pipe")
    change(sb, host, "echo two >file; rm -r gone mode; echo z >gone; ln -sfn other link; rm pipe")
    with Stopped(sb, point) as process:
        act(host)
        before = {name: what for name, what in snapshot(host).items() if ".sb-apply" not in name}
        said = go_on(process)
    assert said.startswith(f"sb: cannot apply {host}/")
    assert said.endswith(": the host has changed it meanwhile\n\nhint: nothing was changed\n")
    assert before == snapshot(host)
    again = sb.command("apply", "box")
    assert (125, 1) == (again.returncode, again.stderr.count("sb: conflict: "))
    assert before == snapshot(host)
    assert 0 == sb.command("apply", "--conflicts", "sandbox", "box").returncode
    assert [] == diff(sb, host)


@pytest.mark.parametrize("point", ON_THE_WAY)
def test_a_directory_vanishes_meanwhile(sb: Sandboxes, host: Path, point: str) -> None:
    """All else stays as it was, and nothing is left beside it; the next apply names the directory as a conflict."""
    change(sb, host, "echo two >file; rm other; echo x >mode/new; echo y >new")
    with Stopped(sb, point) as process:
        shutil.rmtree(host / "mode")
        before = {name: what for name, what in snapshot(host).items() if name in ("gone", "gone/inner", "shut")}
        said = go_on(process)
    assert said.startswith(f"sb: cannot apply {host}/mode")
    assert said.endswith("hint: nothing was changed\n")
    assert ["file", "gone", "other", "shut"] == sorted(os.listdir(host))
    assert ["file\n", "other\n"] == [(host / name).read_text() for name in ("file", "other")]
    assert before == {name: what for name, what in snapshot(host).items() if name in before}
    assert f"sb: conflict: {host}/mode: the host has removed it" in sb.command("apply", "box").stderr
    assert 0 == sb.command("apply", "--conflicts", "host", "box").returncode
    assert ["file", "gone", "new", "shut"] == sorted(os.listdir(host))


def test_a_symlink_comes_and_goes(sb: Sandboxes, host: Path, tmp_path: Path) -> None:
    """Nothing is written where a link leads that is exchanged with a directory all the time; who follows it does."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (host / "way").symlink_to(elsewhere)
    change(sb, host, "for n in $(seq 200); do echo x >mode/$n; done")
    over = threading.Event()
    directory = os.open(host, os.O_RDONLY)

    def swap() -> None:
        while not over.is_set():
            paths.rename(directory, b"mode", directory, b"way", paths.RENAME_EXCHANGE)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        eventually(lambda: touched(host / "mode/control") and (elsewhere / "control").exists())
        (elsewhere / "control").unlink()
        statuses = {sb.command("apply", "box").returncode for _ in range(10)}
    finally:
        over.set()
        swapper.join()
        os.close(directory)
    assert statuses <= {0, 125}
    assert [] == os.listdir(elsewhere)
