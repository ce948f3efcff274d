"""Hard links of a lower file: one file under all its names, known or not, before and after it is changed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fuse_overlay.kernel import paths

if TYPE_CHECKING:
    from fuse_overlay.config import Lower
    from tests.overlay.conftest import Driver, Stage


@pytest.fixture
def lower(stage: Stage) -> Lower:
    """A layer in which `a`, `b` and `d/c` are one file."""
    lower = stage.lower("lower", {"a": b"old", "d": {}})
    top = stage.base / "lower"
    os.link(top / "a", top / "b")
    os.link(top / "a", top / "d" / "c")
    return lower


def seen(driver: Driver, *paths: str) -> set[tuple[bytes, int, int, int]]:
    """Content, mode, link count and inode number under these names: one for all of a single file."""
    entries = [(path, driver.entry(path)) for path in paths]
    return {(driver.read(path), entry.owner.mode, entry.nlink, entry.node.ino) for path, entry in entries}


def test_names_that_nobody_looked_at(stage: Stage, lower: Lower) -> None:
    """A change under one name shows under those that weren't known at the time, the attributes too."""
    driver = stage.over(lower)
    number = driver.ino("a")
    driver.write("a", b"new")
    driver.set("a", mode=0o640)
    assert 3 == driver.entry("a").nlink
    assert {(b"new", 0o640, 3, number)} == seen(driver, "a", "b", "d/c")
    driver.write("d/c", b"newer")
    assert {(b"newer", 0o640, 3, number)} == seen(driver, "a", "b", "d/c")


def test_after_a_restart(stage: Stage, lower: Lower) -> None:
    """A second overlay over the same layers knows which file the other names mean."""
    first = stage.over(lower)
    first.write("a", b"new")
    number = first.ino("a")
    second = stage.over(lower)
    assert {(b"new", 0o644, 3, number)} == seen(second, "d/c", "b", "a")
    assert [] == os.listdir(stage.work)


def test_names_are_lost_one_by_one(stage: Stage, lower: Lower) -> None:
    """The link count goes down with each name, of an unchanged file and of a copy, and the file ends with its last."""
    driver = stage.over(lower)
    driver.unlink("a")
    assert 2 == driver.entry("b").nlink
    driver.write("b", b"new")
    assert 2 == driver.entry("b").nlink
    driver.unlink("b")
    assert {(b"new", 0o644, 1, driver.ino("d/c"))} == seen(driver, "d/c")
    driver.unlink("d/c")
    assert [] == driver.ls("d")
    assert [] == os.listdir(stage.work)


def test_lost_names_are_lost_after_a_restart(stage: Stage, lower: Lower) -> None:
    """A file that nobody changed has the link count that it had before, and its last name is its end."""
    stage.over(lower).unlink("a")
    stage.close()
    driver = stage.over(lower)
    assert 2 == driver.entry("b").nlink
    driver.unlink("b")
    stage.close()
    driver = stage.over(lower)
    assert 1 == driver.entry("d/c").nlink
    opened = driver.overlay.open(driver.ino("d/c"), os.O_RDONLY)
    number = driver.ino("d/c")
    driver.unlink("d/c")
    assert (0, []) == (driver.overlay.getattr(number).nlink, os.listdir(stage.work))
    driver.overlay.release(opened.handle)


def test_a_changed_file_moves_and_the_others_stay(stage: Stage, lower: Lower) -> None:
    """A name that was changed and moved away, or replaced, leaves the change to the other names."""
    driver = stage.over(lower)
    driver.write("a", b"new")
    driver.rename("a", "elsewhere")
    driver.write("x", b"x")
    driver.rename("x", "b")
    assert {(b"new", 0o644, 2, driver.ino("d/c"))} == seen(driver, "elsewhere", "d/c")
    driver.rename("elsewhere", "d/c", paths.RENAME_EXCHANGE)
    assert {(b"new", 0o644, 2, driver.ino("d/c"))} == seen(driver, "elsewhere", "d/c")


def test_an_open_file_loses_its_name_and_keeps_the_others(stage: Stage, lower: Lower) -> None:
    """What is written by a descriptor whose name is gone, shows under the names that are left; they are one file."""
    driver = stage.over(lower)
    number = driver.ino("a")
    opened = driver.overlay.open(number, os.O_RDONLY)
    driver.unlink("a")
    assert 2 == driver.overlay.getattr(number).nlink
    driver.set_by_number(number, mode=0o600)
    assert (2, number) == (driver.overlay.getattr(number).nlink, driver.ino("b"))
    driver.write("d/c", b"new")
    assert b"new" == os.pread(opened.handle, 10, 0)
    assert {(b"new", 0o600, 2, number)} == seen(driver, "b", "d/c")
    driver.overlay.release(opened.handle)


def test_a_directory_of_links_is_moved(stage: Stage, lower: Lower) -> None:
    """A lower directory that is renamed takes its name of the file along."""
    driver = stage.over(lower)
    driver.rename("d", "e")
    driver.write("a", b"new")
    assert {(b"new", 0o644, 3, driver.ino("a"))} == seen(driver, "a", "b", "e/c")


def test_another_file_of_the_same_number_is_another_file(stage: Stage, lower: Lower) -> None:
    """A file that the host puts under the inode number of one that was copied up is not taken for it."""
    driver = stage.over(lower)
    driver.write("a", b"new")
    os.utime(stage.base / "lower" / "b", ns=(0, 0))
    assert b"old" == stage.over(lower).read("b")


def test_a_work_directory_of_another_upper_means_nothing(stage: Stage, lower: Lower) -> None:
    """With a fresh upper the lower file is what it was."""
    stage.over(lower).write("a", b"new")
    stage.close()
    os.rename(stage.upper, stage.base / "old upper")
    assert {(b"old", 0o644, 3, stage.over(lower).ino("b"))} == seen(stage.over(lower), "a", "b", "d/c")
    assert [] == os.listdir(stage.work)
