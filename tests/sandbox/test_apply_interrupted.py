"""`sb apply` when something comes between: its own death, a full disk, a target that changes under its hands."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.sandbox import processes
from tests.sandbox.reviewing import change, diff, snapshot
from tests.sandbox.running import PATIENCE, SB, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Count
    from tests.sandbox.running import Sandboxes

# Every point at which an apply can be killed, in order, and how often it comes by there with the changes below.
POINTS = {
    "apply-staging": 1,
    "apply-file-staged": 6,
    "apply-committing": 1,
    "apply-action-done": 7,
    "apply-committed": 1,
    "apply-cleared": 3,
    "apply-over": 1,
}
# What comes after this is finished and not undone.
LAST_UNDONE = "apply-action-done"

CHANGES = "echo two >file; rm other; mkdir new; echo x >new/file; echo y >shut/added; rm -r gone; echo z >gone; chmod 750 mode"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host's."""
    made = tmp_path / "host"
    for name in ("shut", "gone", "mode"):
        (made / name).mkdir(parents=True)
        (made / name / "inner").write_text(f"{name}\n")
    for name in ("file", "other"):
        (made / name).write_text(f"{name}\n")
    (made / "shut").chmod(0o500)
    yield made
    (made / "shut").chmod(0o700)


@pytest.fixture
def moments(count: Count) -> Callable[[str], list[int]]:
    """`moments(POINT)`: at which of the times that an apply comes by there it is killed; all with --long."""

    def pick(point: str) -> list[int]:
        number = POINTS[point]
        return sorted({1, number}) if count(0, 1) == 0 else list(range(1, number + 1))

    return pick


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_step(sb: Sandboxes, host: Path, moments: Callable[[str], list[int]], point: str) -> None:
    """The next apply says what it did: undid all, and begins anew, or finished; either way all is there in the end."""
    before = snapshot(host)
    change(sb, host, CHANGES)
    finishes = list(POINTS).index(point) > list(POINTS).index(LAST_UNDONE)
    after = None
    for moment in moments(point):
        assert -signal.SIGKILL == sb.command("apply", "box", fault=f"{point}:{moment}").returncode
        again = sb.command("apply", "box")
        assert (0, "") == (again.returncode, again.stderr if again.returncode else "")
        assert f"sb: an earlier apply was cut short: it is {'finished' if finishes else 'undone'} now" in again.stderr
        assert [] == diff(sb, host)
        assert after in (None, snapshot(host))
        after = snapshot(host)
        assert after != before
        assert [] == [name for name in map(str, host.rglob("*")) if ".sb-apply" in name]
        restore(host, before)


@pytest.mark.parametrize("point", POINTS)
def test_removed_after_a_kill(sb: Sandboxes, host: Path, point: str) -> None:
    """Who removes the sandbox instead finds the host as it was before, or as it was to be: nothing in between."""
    before = snapshot(host)
    change(sb, host, CHANGES)
    assert -signal.SIGKILL == sb.command("apply", "box", fault=f"{point}:{POINTS[point]}").returncode
    removed = sb.command("rm", "box")
    assert (0, "box\n") == (removed.returncode, removed.stdout)
    if list(POINTS).index(point) <= list(POINTS).index(LAST_UNDONE):
        assert before == snapshot(host)
    else:
        assert ["file", "gone", "mode", "new", "shut"] == sorted(os.listdir(host))
        assert ["two\n", "z\n"] == [(host / name).read_text() for name in ("file", "gone")]


def test_killed_while_it_undoes(sb: Sandboxes, host: Path) -> None:
    """The undoing of a killed apply can be killed too, time and again."""
    before = snapshot(host)
    change(sb, host, CHANGES)
    assert -signal.SIGKILL == sb.command("apply", "box", fault=f"apply-action-done:{POINTS['apply-action-done']}").returncode
    for moment in (1, 3, 5):
        assert -signal.SIGKILL == sb.command("rm", "box", fault=f"apply-action-undone:{moment}").returncode
    assert 0 == sb.command("rm", "box").returncode
    assert before == snapshot(host)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(sb: Sandboxes, host: Path, number: signal.Signals) -> None:
    """Ctrl-C undoes what was begun at once, and says so."""
    before = snapshot(host)
    change(sb, host, CHANGES)
    with stopped(sb, "apply-action-done") as process:
        process.send_signal(number)
        os.kill(process.pid, signal.SIGCONT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert (125, "sb: the apply was interrupted\n\nhint: nothing was changed\n") == (process.returncode, errors)
    assert before == snapshot(host)


def test_a_full_disk(sb: Sandboxes, host: Path) -> None:
    """An apply for which there is no space leaves all as it was, and says at which file it ended."""
    before = snapshot(host)
    change(sb, host, f"{CHANGES}; head -c 300000 /dev/zero >new/large; head -c 1000 /dev/zero >new/small")
    # A limit of the largest file stands for a disk: to write beyond either is an error of write(2).
    limited = f"ulimit -f 200; trap '' XFSZ; exec {SB} apply box"
    done = subprocess.run(["bash", "-c", limited], env=sb.environment, capture_output=True, text=True, check=False)
    assert 125 == done.returncode
    assert done.stderr.startswith(f"sb: cannot apply {host}/new/large: ")
    assert before == snapshot(host)
    assert 0 == sb.command("apply", "box").returncode


class stopped:  # noqa: N801 - reads as what it is in a `with`
    """An `sb apply box` that is stopped at a point."""

    def __init__(self, sb: Sandboxes, point: str) -> None:
        self._sb = sb
        self._point = point

    def __enter__(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [SB, "apply", "box"],
            env={**self._sb.environment, "SB_FAULT": f"{self._point}:stop"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        eventually(lambda: processes.state(self._process.pid) == "T")
        return self._process

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()


def go_on(process: subprocess.Popen[str]) -> str:
    """Let a stopped apply run to its end, which must be an error, past all points. Returns what it said."""
    while process.poll() is None:
        if processes.state(process.pid) == "T":
            os.kill(process.pid, signal.SIGCONT)
    assert 125 == process.returncode
    assert process.stderr is not None
    return process.stderr.read()


@pytest.mark.parametrize("point", ["apply-staging", "apply-committing"])
def test_a_symlink_is_swapped_in(sb: Sandboxes, host: Path, tmp_path: Path, point: str) -> None:
    """A directory of the target's path that becomes a symbolic link meanwhile leads nowhere: all stays as it was."""
    change(sb, host, "echo x >mode/new; echo two >mode/inner; rm other")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "inner").write_text("mine\n")
    with stopped(sb, point) as process:
        (host / "mode").rename(host / "aside")
        (host / "mode").symlink_to(elsewhere)
        said = go_on(process)
    assert said.startswith("sb: cannot ")
    assert (["inner"], "mine\n") == (os.listdir(elsewhere), (elsewhere / "inner").read_text())
    assert (host / "other").exists()
    (host / "mode").unlink()
    (host / "aside").rename(host / "mode")
    assert 0 == sb.command("apply", "box").returncode
    assert (["inner", "new"], "two\n") == (sorted(os.listdir(host / "mode")), (host / "mode/inner").read_text())
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
    with stopped(sb, "apply-committing") as process:
        act(host)
        before = snapshot(host)
        said = go_on(process)
    assert said.startswith(f"sb: cannot apply {host}/")
    kept = {name: what for name, what in snapshot(host).items()}
    assert before == {**kept}


def restore(host: Path, before: dict[str, tuple[object, ...]]) -> None:
    """Make a directory what it was: its files, their content and modes."""
    (host / "shut").chmod(0o700)
    for name in os.listdir(host):
        subprocess.run(["rm", "-rf", host / name], check=True)
    for name, (_, mode, _, _, data, *_) in sorted(before.items()):
        path = host / name
        if isinstance(data, bytes):
            path.write_bytes(data)
        elif name != ".":
            path.mkdir()
        assert isinstance(mode, int)
        path.chmod(mode | 0o200)
    (host / "shut").chmod(0o500)
