"""Read-only paths: no request changes what is there, by whichever way."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest

from fuse_overlay.creation import Caller
from fuse_overlay.errors import OverlayError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.overlay.conftest import Driver, Stage

EXCHANGE = 2


@pytest.fixture
def host(stage: Stage) -> Path:
    """A live directory with `w/keep/f`, `w/free/f` and a few links."""
    contents = {"w": {"keep": {"f": b"old", "d": {}}, "free": {"f": b"old", "d": {}}}, "way": "w"}
    stage.lower("host", contents)  # type: ignore[arg-type]  # dict is invariant
    return stage.base / "host"


@pytest.fixture
def drive(stage: Stage, host: Path) -> Callable[..., Driver]:
    """An overlay over it in which these paths are read-only."""

    def over(*read_only: str) -> Driver:
        lower = stage.lower("host", {}, layer=False, live=True)
        return stage.drive(stage.config(lower)._replace(read_only=tuple(map(os.fsencode, read_only))))

    return over


def refusal(act: Callable[[], object]) -> str:
    """The errno that something fails with, as a name; empty if it succeeds."""
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def changes(driver: Driver, place: str) -> dict[str, Callable[[], object]]:
    """Every kind of change at and beneath a directory with a file f and a directory d."""
    ino, above = driver.ino, driver.split(place)
    file = ino(f"{place}/f")
    overlay = driver.overlay
    return {
        "open for writing": lambda: overlay.release(overlay.open(file, os.O_RDWR).handle),
        "open to truncate": lambda: overlay.release(overlay.open(file, os.O_RDONLY | os.O_TRUNC).handle),
        "create": lambda: driver.write(f"{place}/new", b""),
        "mkdir": lambda: driver.mkdir(f"{place}/new d"),
        "mknod": lambda: overlay.mknod(ino(place), b"fifo", stat.S_IFIFO | 0o600, Caller()),
        "symlink": lambda: driver.symlink(f"{place}/new l", b"x"),
        "link in": lambda: driver.link("w/other", f"{place}/in"),
        "link out": lambda: driver.link(f"{place}/f", "out"),
        "chmod": lambda: driver.set(f"{place}/f", mode=0o600),
        "chown": lambda: driver.set(f"{place}/f", uid=7),
        "times": lambda: driver.set(f"{place}/f", mtime=1),
        "truncate": lambda: driver.set(f"{place}/f", size=0),
        "chmod of the directory": lambda: driver.set(place, mode=0o700),
        "setxattr": lambda: overlay.setxattr(file, b"user.a", b"b"),
        "removexattr": lambda: overlay.removexattr(file, b"user.a"),
        "rename over": lambda: driver.rename("w/other", f"{place}/f"),
        "rename within": lambda: driver.rename(f"{place}/f", f"{place}/g"),
        "rename out": lambda: driver.rename(f"{place}/g" if driver.exists(f"{place}/g") else f"{place}/f", "w/gone"),
        "rmdir": lambda: driver.rmdir(f"{place}/d"),
        "unlink": lambda: driver.unlink(f"{place}/new" if driver.exists(f"{place}/new") else f"{place}/f"),
        "rename itself": lambda: overlay.rename(*above, 1, b"elsewhere", 0),
    }


def test_every_kind_of_change(drive: Callable[..., Driver], host: Path, stage: Stage) -> None:
    """All are EROFS at a read-only path, all succeed beside it, and nothing of it is in the upper."""
    driver = drive("/w/keep")
    driver.write("w/other", b"other")
    refused = {name: refusal(change) for name, change in changes(driver, "w/keep").items()}
    assert dict.fromkeys(refused, "EROFS") == refused
    assert b"old" == driver.read("w/keep/f")
    assert ["d", "f"] == driver.ls("w/keep")
    assert not (stage.upper / "w" / "keep").exists()
    done = {name: refusal(change) for name, change in changes(driver, "w/free").items()}
    assert dict.fromkeys(done, "") == done


def test_what_lies_above_stays_in_place(drive: Callable[..., Driver]) -> None:
    """A directory above a read-only path is neither moved nor exchanged nor replaced; others are."""
    driver = drive("/w/keep/f")
    driver.mkdir("x")
    for source, target, flags in (("w", "v", 0), ("w", "x", EXCHANGE), ("x", "w", EXCHANGE), ("w/keep", "k", 0)):
        assert "EROFS" == refusal(lambda a=source, b=target, c=flags: driver.rename(a, b, c))  # type: ignore[misc]
    assert "ENOTEMPTY" == refusal(lambda: driver.rmdir("w/keep"))
    driver.rename("w/keep/d", "w/d")
    driver.rename("w/free", "x", EXCHANGE)
    assert b"old" == driver.read("w/keep/f")


def test_a_path_that_is_not_there(drive: Callable[..., Driver]) -> None:
    """Nothing can come to a read-only path, by making it, by a link on the way or by moving a tree there."""
    driver = drive("/w/git/hooks")
    assert "EROFS" == refusal(lambda: driver.symlink("w/git", b"/evil"))
    driver.mkdir("w/evil")
    driver.mkdir("w/evil/hooks")
    assert "EROFS" == refusal(lambda: driver.rename("w/evil", "w/git"))
    driver.symlink("w/evil link", b"evil")
    assert "EROFS" == refusal(lambda: driver.link("w/evil link", "w/git"))
    driver.mkdir("w/git")
    assert "EROFS" == refusal(lambda: driver.mkdir("w/git/hooks"))
    assert "EROFS" == refusal(lambda: driver.rename("w/evil/hooks", "w/git/hooks"))
    driver.write("w/git/config", b"fine")
    driver.unlink("w/git/config")
    driver.rmdir("w/git")


def test_links_on_the_way(drive: Callable[..., Driver]) -> None:
    """A path by way of a symbolic link means what it leads to, and the link stays."""
    driver = drive("/way/keep")
    assert "EROFS" == refusal(lambda: driver.write("w/keep/f", b"new"))
    assert "EROFS" == refusal(lambda: driver.unlink("way"))
    assert "EROFS" == refusal(lambda: driver.rename("way", "gone"))
    driver.write("w/free/f", b"new")


def test_other_names_of_a_read_only_file(drive: Callable[..., Driver], host: Path) -> None:
    """By its other names a file is changed as a copy, or not at all: the path keeps what it had."""
    for name in ("one", "two"):
        (host / "w" / name).mkdir()
        os.link(host / "w/keep/f", host / "w" / name / "f")
    driver = drive("/w/keep")
    driver.write("w/one/f", b"new")
    assert [b"new", b"old"] == [driver.read(path) for path in ("w/two/f", "w/keep/f")]
    driver.write("w/two/f", b"newer")
    assert [b"newer", b"old"] == [driver.read(path) for path in ("w/one/f", "w/keep/f")]


def test_a_file_that_is_known_by_a_read_only_name(drive: Callable[..., Driver], host: Path) -> None:
    """Under its other names it isn't changed either, nor moved, alone or with the directory around it."""
    (host / "w/one").mkdir()
    os.link(host / "w/keep/f", host / "w/one/f")
    driver = drive("/w/keep")
    ino = driver.ino("w/keep/f")
    driver.overlay.lookup(driver.ino("w/keep"), b"f")  # the kernel knows it
    assert ino == driver.ino("w/one/f")
    assert "EROFS" == refusal(lambda: driver.write("w/one/f", b"new"))
    assert "EROFS" == refusal(lambda: driver.rename("w/one/f", "w/g"))
    assert "EROFS" == refusal(lambda: driver.rename("w/one", "w/two"))
    driver.unlink("w/one/f")
    assert b"old" == driver.read("w/keep/f")


def test_the_whole_tree(drive: Callable[..., Driver], stage: Stage) -> None:
    """`/` is a read-only path like another one."""
    driver = drive("/")
    assert "EROFS" == refusal(lambda: driver.write("new", b""))
    assert "EROFS" == refusal(lambda: driver.set("", mode=0o700))
    assert [] == list(stage.upper.iterdir())


def test_a_relative_path_is_an_error(drive: Callable[..., Driver]) -> None:
    """What isn't absolute is refused at the start."""
    with pytest.raises(OverlayError, match="cannot make read-only: w is not an absolute path"):
        drive("w")
