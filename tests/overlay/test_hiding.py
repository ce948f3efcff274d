"""What is hidden stays so, whatever is done around it and whichever name it has."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.overlay.conftest import Driver, Mounted, Stage

PATIENCE = 10.0  # the next scan comes after ten times what the last one has taken


@pytest.fixture
def hiding(stage: Stage) -> Callable[..., Driver]:
    """An overlay over a live directory `host` that hides paths in it."""

    def drive(*hidden: str) -> Driver:
        host = stage.lower("host", {}, layer=False, live=True)
        return stage.drive(stage.config(host, hidden=tuple(stage.base / "host" / path for path in hidden)))

    return drive


@pytest.fixture
def home(stage: Stage) -> Path:
    """The directory `home` on the host, with secrets in it: a file, a directory, and files of a pattern."""
    stage.lower(
        "host",
        {"home": {"key": b"s", "ssh": {"id": b"s", "sub": {"deep": b"s"}}, "cc_1": b"s", "cc_b": b"s", "c": b"shown"}},
    )
    return stage.base / "host" / "home"


def test_a_pattern_means_the_last_component(hiding: Callable[..., Driver], home: Path) -> None:
    """`*` stands for anything in the last name, what comes later too, and for nothing in other directories."""
    (home / "sub").mkdir()
    (home / "sub" / "cc_1").write_bytes(b"elsewhere")
    driver = hiding("home/cc_*", "home/s*h")
    assert ["c", "key", "sub"] == driver.ls("home")
    (home / "cc_new").write_bytes(b"s")
    assert not driver.exists("home/cc_new")
    assert b"elsewhere" == driver.read("home/sub/cc_1")
    driver.write("home/cc_mine", b"mine")
    assert b"mine" == driver.read("home/cc_mine")


def test_hard_links_into_hidden_directories(hiding: Callable[..., Driver], home: Path) -> None:
    """A file in a hidden directory, or of a hidden pattern, is hidden under its names elsewhere; others are not."""
    os.link(home / "ssh/sub/deep", home / "other name")
    os.link(home / "cc_1", home / "another")
    os.link(home / "c", home / "d")
    assert ["c", "d"] == hiding("home/ssh", "home/cc_*", "home/key").ls("home")
    assert ["another", "c", "cc_1", "cc_b", "d", "key", "other name", "ssh"] == hiding().ls("home")


def test_a_hard_link_that_is_made_later(hiding: Callable[..., Driver], home: Path) -> None:
    """A link into a hidden directory that the host makes while the overlay is mounted, is hidden too."""
    os.link(home / "c", home / "d")
    driver = hiding("home/ssh")
    assert ["c", "cc_1", "cc_b", "d", "key"] == driver.ls("home")
    os.link(home / "ssh/id", home / "late")
    deadline = time.monotonic() + PATIENCE
    while driver.exists("home/late"):
        assert time.monotonic() < deadline
    assert driver.exists("home/d")


def test_symbolic_links_to_and_at_hidden_paths(hiding: Callable[..., Driver], home: Path) -> None:
    """What a hidden link points to is hidden, and a link on the way to a hidden path doesn't show it."""
    (home / "hidden link").symlink_to("key")
    (home.parent / "way").symlink_to("home")
    driver = hiding("home/hidden link", "way/ssh")
    assert ["c", "cc_1", "cc_b"] == driver.ls("home")


def test_copying_the_directory_around_it_up(hiding: Callable[..., Driver], home: Path) -> None:
    """Renaming and exchanging the directory that has secrets in it neither copies nor shows them."""
    driver = hiding("home/ssh", "home/key", "home/cc_*")
    driver.set("home", mode=0o700)
    assert ["c"] == driver.ls("home")
    driver.rename("home", "moved")
    assert ["c"] == driver.ls("moved")
    driver.mkdir("home")
    assert [] == driver.ls("home")
    driver.rename("home", "moved", 2)  # RENAME_EXCHANGE
    assert ([], ["c"]) == (driver.ls("moved"), driver.ls("home"))
    assert not driver.exists("home/key")
    assert b"s" == (home / "key").read_bytes()


def test_removing_the_directory_around_it(hiding: Callable[..., Driver], home: Path, stage: Stage) -> None:
    """A directory with nothing but secrets in it is empty: it can be removed, and comes back without them."""
    driver = hiding("home/ssh", "home/key", "home/cc_*")
    driver.unlink("home/c")
    driver.rmdir("home")
    driver.mkdir("home")
    assert [] == driver.ls("home")
    driver.write("home/key", b"mine")
    driver.unlink("home/key")
    assert [] == driver.ls("home")
    assert [] == list((stage.upper / "home").iterdir())  # no whiteout tells of what was hidden
    assert (home / "ssh/sub/deep").exists()


def test_hidden_at_every_turn_of_a_program(mounted: Mounted) -> None:
    """stat, open, rename, link, find and cp -a find no hidden file, with its positive control beside it."""
    for name in ("secret", "public"):
        directory = mounted.lower / name
        directory.mkdir()
        (directory / "file").write_text(name)
        os.link(directory / "file", mounted.lower / f"link to {name}")
    script = """
    succeed() {
        for step in 'stat $1/file' 'cat $1/file' 'cat "link to $1"' 'mv $1 moved && mv moved $1' 'ln "link to $1" new'
        do
            if eval "$step" >/dev/null 2>&1; then printf 1; else printf 0; fi
        done
        rm -f new; echo
    }
    succeed public; succeed secret; cp -a . ../copy; find . ../copy -name '*secret*'
    """
    assert "11111\n00000\n" == mounted.run(script, live=True, hidden=(mounted.lower / "secret",))
