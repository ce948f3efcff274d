"""`sb apply` and what the host writes where it is at work: none of that is lost; what isn't in its place is named."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.reviewing import Stopped, change, diff, is_stopped, make_directory, snapshot
from tests.sandbox.running import store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.running import Sandboxes

CHANGES = "echo two >file; rm other; mkdir -p new/deep; echo x >new/deep/file; echo y >shut/added; rm -r gone"
ALL_DONE = "apply-action-done:5"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host's."""
    made = make_directory(tmp_path / "host")
    yield made
    if (made / "shut").exists():
        (made / "shut").chmod(0o700)


def killed(sb: Sandboxes, host: Path, fault: str = ALL_DONE, changes: str = CHANGES) -> None:
    """Have an apply of some changes be killed."""
    change(sb, host, changes)
    assert -signal.SIGKILL == sb.command("apply", "box", fault=fault).returncode


def asides(said: str, host: Path) -> dict[str, str]:
    """What warnings say where something is kept, by what it is about; empty if it stays where it is."""
    found = {}
    for line in said.splitlines():
        if line.startswith("sb: warning: "):
            name = line.split(": ")[2].removeprefix(f"{host}/")
            kept = re.search(r"/[^ ]*[.]sb-apply-[^ ):]*", line)
            found[name] = kept[0] if kept else ""
    return found


def named(host: Path) -> set[str]:
    """The names in a directory, and below it, that an apply has left."""
    return {str(path) for path in host.rglob(".sb-apply-*")}


def resume(process: subprocess.Popen[str]) -> str:
    """Let a stopped apply run to its end, which must be a success, past all points. Returns what it said."""
    while process.poll() is None:
        if is_stopped(process.pid):
            os.kill(process.pid, signal.SIGCONT)
    assert process.stderr is not None
    said = process.stderr.read()
    assert 0 == process.returncode, said
    return said


@pytest.mark.parametrize("command", ["apply", "rm"])
def test_what_the_host_writes_before_it_is_undone(sb: Sandboxes, host: Path, command: str) -> None:
    """What it writes to files that were just put there stays in its place, and what was there before beside it."""
    killed(sb, host)
    (host / "file").write_text("mine\n")
    (host / "new/deep/mine").write_text("mine\n")
    with (host / "shut/added").open("a") as added:
        added.write("mine\n")
    (host / "other").write_text("mine\n")
    (host / "gone").mkdir()
    (host / "gone/mine").write_text("mine\n")
    done = sb.command(command, "box")
    kept = asides(done.stderr, host)
    assert {"file", "gone", "new", "other", "shut/added"} == set(kept)
    assert ["mine\n"] * 3 == [(host / name).read_text() for name in ("file", "other", "gone/mine")]
    assert ["x\n", "mine\n"] == [(host / "new/deep" / name).read_text() for name in ("file", "mine")]
    assert "y\nmine\n" == (host / "shut/added").read_text()
    assert ("", "") == (kept["new"], kept["shut/added"])
    before = {name: kept[name] for name in ("file", "gone", "other")}
    assert named(host) == set(before.values())
    os.stat(before["gone"] + "/inner")
    for name in ("file", "other"):
        with open(before[name]) as old:
            assert f"{name}\n" == old.read()
    if command == "apply":  # and goes on to what is a conflict now
        clashes = {line.split(": ")[2] for line in done.stderr.splitlines() if line.startswith("sb: conflict: ")}
        assert (125, True) == (done.returncode, {f"{host}/{name}" for name in ("file", "other", "gone")} <= clashes)
    else:
        assert 0 == done.returncode


def test_an_undoing_that_is_killed_says_it_again(sb: Sandboxes, host: Path) -> None:
    """What stays isn't forgotten, nor is it cleared away, by who goes on with an undoing that was killed."""
    killed(sb, host)
    (host / "file").write_text("mine\n")
    (host / "other").write_text("mine\n")
    for moment in (1, 3, 5):
        assert -signal.SIGKILL == sb.command("rm", "box", fault=f"apply-action-undone:{moment}").returncode
    said = sb.command("rm", "box").stderr
    assert {"file", "other"} == set(asides(said, host))
    assert named(host) == set(asides(said, host).values())
    assert ["mine\n"] * 2 == [(host / name).read_text() for name in ("file", "other")]


def test_an_apply_that_fails_where_the_host_has_gone_on(sb: Sandboxes, host: Path) -> None:
    """Without a death in between: what it wrote to what was put there stays, and it isn't said that nothing changed."""
    change(sb, host, "echo one >a; echo two >file")
    with Stopped(sb, "apply-action-done") as process:
        (host / "a").write_text("mine\n")
        (host / "file").write_text("mine\n")
        while process.poll() is None:
            if is_stopped(process.pid):
                os.kill(process.pid, signal.SIGCONT)
        assert process.stderr is not None
        said = process.stderr.read()
    assert (125, {"a": ""}) == (process.returncode, asides(said, host))
    assert said.endswith("file: the host has changed it meanwhile\n\nhint: all else is as it was before\n")
    assert ["mine\n"] * 2 == [(host / name).read_text() for name in ("a", "file")]


def test_the_journal_of_an_older_sb(sb: Sandboxes, host: Path) -> None:
    """It doesn't tell what was put there, so that gives way to what was there before, and is kept beside it."""
    before = snapshot(host)
    killed(sb, host, "apply-action-done:2")
    (host / "file").write_text("mine\n")
    path = store(sb) / "names/box/apply.committing"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "version": 2, "actions": [each[:10] for each in document["actions"]]}))
    removed = sb.command("rm", "box")
    kept = asides(removed.stderr, host)
    assert (0, {"file"}, named(host)) == (removed.returncode, set(kept), set(kept.values()))
    with open(kept["file"]) as mine:
        assert "mine\n" == mine.read()
    os.unlink(kept["file"])
    assert before == snapshot(host)


def test_a_new_directory_that_cannot_be_read(sb: Sandboxes, host: Path) -> None:
    """Nobody can tell whether the host has written into it: it gives way, and is kept."""
    killed(sb, host, "apply-action-done", "mkdir new; echo x >new/file; chmod 300 new")
    (host / "new/mine").write_text("mine\n")
    removed = sb.command("rm", "box")
    kept = asides(removed.stderr, host)
    assert (0, {"new"}, named(host)) == (removed.returncode, set(kept), set(kept.values()))
    os.chmod(kept["new"], 0o700)
    assert ["file", "mine"] == sorted(os.listdir(kept["new"]))
    assert not (host / "new").exists()


@pytest.mark.parametrize("point", ["apply-committed", "apply-clearing"])
def test_what_is_written_into_what_is_cleared_away(sb: Sandboxes, host: Path, point: str) -> None:
    """A process whose working directory was removed writes there at the last moment: that is kept, and named."""
    (host / "gone/deep/down").mkdir(parents=True)
    (host / "gone/deep/down/inner").write_text("inner\n")
    change(sb, host, "rm -r gone other; echo z >gone; mkdir new")
    there, down = (os.open(host / name, os.O_PATH) for name in ("gone", "gone/deep/down"))
    try:
        with Stopped(sb, point) as process:
            for directory, name in ((there, "mine"), (down, "inner"), (down, "mine")):
                mine = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, dir_fd=directory)
                os.write(mine, b"mine\n")
                os.close(mine)
            said = resume(process)
    finally:
        os.close(there)
        os.close(down)
    kept = asides(said, host)
    assert ({"gone"}, named(host)) == (set(kept), set(kept.values()))
    for name, text in (("mine", "mine\n"), ("deep/down/mine", "mine\n"), ("deep/down/inner", "inner\nmine\n")):
        assert text == Path(kept["gone"], name).read_text()
    assert (point == "apply-committed") == os.path.exists(f"{kept['gone']}/inner")
    assert ("z\n", False) == ((host / "gone").read_text(), (host / "other").exists())
    assert [] == diff(sb, host)
    hint = re.search(r"\((rm -r .*) removes it\)", said)
    assert hint is not None
    subprocess.run(shlex.split(hint[1]), check=True)
    assert set() == named(host)


def test_directories_that_are_read_only_go(sb: Sandboxes, host: Path) -> None:
    """Whoever is root inside removes directories that their owner can't write to; so does the apply."""
    (host / "shut").chmod(0o700)
    (host / "shut/deep").mkdir()
    (host / "shut/deep/file").write_text("x")
    for each in ("shut/deep", "shut"):
        (host / each).chmod(0o500)
    change(sb, host, "rm -r shut")
    applied = sb.command("apply", "box")
    assert (0, True) == (applied.returncode, applied.stderr.startswith("sb: applied: "))
    assert set() == named(host)
    assert not (host / "shut").exists()


def test_what_is_staged_is_read_only(sb: Sandboxes, host: Path) -> None:
    """New directories that nobody may write to are cleared away too by who undoes an apply that was killed."""
    before = snapshot(host)
    killed(sb, host, "apply-file-staged:3", "mkdir -p new/deep; echo x >new/deep/file; chmod 555 new/deep new")
    assert set() != named(host)
    for each in named(host):  # as they are in the end, a moment before that is noted
        for directory in (f"{each}/deep", each):
            os.chmod(directory, 0o555)
    removed = sb.command("rm", "box")
    assert (0, "") == (removed.returncode, removed.stderr)
    assert before == snapshot(host)
