"""Of what stands where nothing was, all goes at the end, and nothing that is somebody's own."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

import pytest

from fuse_overlay.kernel import paths
from rootless_sb import placeholders, sandboxes, stand_ins
from rootless_sb.placeholders import Placeholders
from rootless_sb.unasked import DIRECTORY, FILE, LINK, SOCKET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# acl(5) as the kernel stores it: version 2, then tag, permissions and id of each entry, for others none.
_ENTRIES = ((0x01, 7, 0xFFFFFFFF), (0x04, 5, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF))
CLOSED_TO_OTHERS = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in _ENTRIES)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the notes are, in place of the user's own."""
    place = tmp_path / "index"
    place.mkdir()
    monkeypatch.setattr(sandboxes, "open_index", lambda _: opened(place))
    return place


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """Where placeholders are made."""
    place = tmp_path / "project"
    place.mkdir()
    yield place
    if (place / "in/d").exists():  # closed yet, if the test has failed
        (place / "in/d").chmod(0o700)


def opened(place: Path) -> int:
    return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def sweep(index: Path) -> None:
    """What the next sandbox does at its start."""
    base = opened(index)
    placeholders.sweep(base)
    os.close(base)


def notes(index: Path) -> list[str]:
    return os.listdir(index / "placeholders")


def kill(killed: Placeholders) -> None:
    """What the end of the process does."""
    os.close(killed._own)


@pytest.mark.parametrize("kind", [SOCKET, FILE])
@pytest.mark.parametrize("content", [b"", b"{}", b".\n"])
def test_a_users_own_file_stays(index: Path, project: Path, kind: str, content: bytes) -> None:
    """Also one that looks like a placeholder; what is made beside it goes."""
    own, made = project / "own", project / "made"
    own.write_bytes(content)
    own.chmod(0o444)
    taken = Placeholders("a", os.getuid())
    assert taken.take(str(own), kind, content)
    assert taken.take(str(made), kind, content)
    assert made.exists()
    taken.clear()
    assert ["own"] == os.listdir(project)
    assert [] == notes(index)


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("kind", [SOCKET, LINK, FILE, DIRECTORY])
def test_two_share_one(index: Path, project: Path, kind: str, killed: bool) -> None:
    """It goes with the last one of them, also if the one that made it was killed."""
    first, second = Placeholders("a", os.getuid()), Placeholders("b", os.getuid())
    path = str(project / "x")
    first.take(path, kind)
    if killed:
        kill(first)
    second.take(path, kind)
    if killed:
        sweep(index)
    else:
        first.clear()
    assert ["x"] == os.listdir(project)
    second.clear()
    assert [] == os.listdir(project)
    assert [] == notes(index)


@pytest.mark.parametrize("killed", [False, True])
def test_a_directory_may_say_who_reads_what_is_made_in_it(index: Path, project: Path, killed: bool) -> None:
    """A default ACL takes permissions away from a placeholder, which goes nevertheless."""
    try:
        os.setxattr(project, "system.posix_acl_default", CLOSED_TO_OTHERS)
    except OSError:
        pytest.skip("no POSIX ACLs here")
    taken = Placeholders("a", os.getuid())
    for kind in (SOCKET, LINK, FILE):
        taken.take(str(project / kind), kind, b".\n")
    assert 0o440 == (project / FILE).stat().st_mode & 0o777
    if killed:
        kill(taken)
        sweep(index)
    else:
        taken.clear()
    assert [] == os.listdir(project)


@pytest.mark.parametrize("kind", [SOCKET, LINK, FILE, DIRECTORY])
def test_somebody_is_faster(index: Path, project: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made between the look and the making is taken, and its maker's."""
    (project / "x").mkdir()
    taken = Placeholders("a", os.getuid())
    with monkeypatch.context() as patched:
        patched.setattr(stand_ins, "is_taken", lambda _: False)
        assert taken.take(str(project / "x"), kind)
    taken.clear()
    assert ["x"] == os.listdir(project)
    assert [] == notes(index)


@pytest.mark.parametrize("kind", [SOCKET, FILE])
def test_what_a_user_puts_in_its_place_stays(index: Path, project: Path, kind: str) -> None:
    """A file of the same name that was made meanwhile, though it is as empty."""
    taken = Placeholders("a", os.getuid())
    taken.take(str(project / "x"), kind)
    (project / "x").unlink()
    (project / "x").write_bytes(b"")
    taken.clear()
    assert ["x"] == os.listdir(project)
    assert [] == notes(index)


@pytest.fixture(params=["openat2", "walk"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How directories are opened: as this kernel can, and as an old one could."""

    def unknown(*_: object) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    if request.param == "walk":
        monkeypatch.setattr(paths, "open_beneath", unknown)


KINDS = {SOCKET: b"", LINK: b"", FILE: b"{}", DIRECTORY: b""}


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("inner", ["x", "in/x"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_made_by_way_of_a_link(index: Path, project: Path, kind: str, inner: str) -> None:
    """Somebody who puts a link in the place of a directory that was looked at has nothing made where it leads."""
    (project / "elsewhere/in").mkdir(parents=True)
    (project / "swapped").symlink_to("elsewhere")
    taken = Placeholders("a", os.getuid())
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        taken.take(str(project / "swapped" / inner), kind)
    assert ["in"] == [path.name for path in (project / "elsewhere").rglob("*")]
    assert taken.take(str(project / "elsewhere" / inner), kind)  # which can be made there, if meant
    taken.clear()
    assert ["in"] == [path.name for path in (project / "elsewhere").rglob("*")]
    assert [] == notes(index)


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("inner", ["x", "in/x"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_removed_by_way_of_a_link(index: Path, project: Path, kind: str, inner: str) -> None:
    """What another sandbox has made where a link leads by now stays. Ours goes once the link is gone."""
    for name in ("p/in", "q/in"):
        (project / name).mkdir(parents=True)
    taken, other = Placeholders("a", os.getuid()), Placeholders("b", os.getuid())
    assert taken.take(str(project / "p" / inner), kind, KINDS[kind])
    assert other.take(str(project / "q" / inner), kind, KINDS[kind])
    (project / "p").rename(project / "moved")
    (project / "p").symlink_to("q")
    taken.clear()
    assert os.path.lexists(project / "q" / inner)
    assert sorted(["a", "b"]) == sorted(notes(index))
    (project / "p").unlink()
    (project / "moved").rename(project / "p")
    sweep(index)
    assert not os.path.lexists(project / "p" / inner)
    other.clear()
    assert not os.path.lexists(project / "q" / inner)
    assert [] == notes(index)


@pytest.mark.parametrize("kind", KINDS)
def test_what_another_directory_has_stays(index: Path, project: Path, kind: str) -> None:
    """A directory that comes into the place of ours may have something that looks the same and isn't ours."""
    for name in ("p", "q"):
        (project / name).mkdir()
    taken, other = Placeholders("a", os.getuid()), Placeholders("b", os.getuid())
    assert taken.take(str(project / "p/x"), kind, KINDS[kind])
    assert other.take(str(project / "q/x"), kind, KINDS[kind])
    (project / "p").rename(project / "moved")
    (project / "q").rename(project / "p")
    taken.clear()
    assert ["x"] == os.listdir(project / "p")
    assert ["b"] == notes(index)


def test_a_file_in_a_directorys_place(index: Path, project: Path) -> None:
    """What had a placeholder in it is gone, and so is the note."""
    taken = Placeholders("a", os.getuid())
    for kind, name in ((DIRECTORY, "d"), (SOCKET, "d/x")):
        assert taken.take(str(project / name), kind)
    (project / "d/x").unlink()
    (project / "d").rmdir()
    (project / "d").write_text("own")
    taken.clear()
    assert ["d"] == os.listdir(project)
    assert [] == notes(index)


@pytest.mark.parametrize("mode", [0o500, 0o000])
@pytest.mark.parametrize("killed", [False, True])
def test_what_cannot_be_removed_stays_noted(index: Path, project: Path, mode: int, killed: bool) -> None:
    """Who comes to a placeholder whose directory is closed leaves the note for somebody who may; a later run of the
    same sandbox knows it too.
    """
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    (project / "in").mkdir()
    taken = Placeholders("a", os.getuid())
    for kind, name in ((SOCKET, "open"), (DIRECTORY, "in/d"), (LINK, "in/d/x"), (FILE, "in/d/y")):
        taken.take(str(project / name), kind)
    (project / "in/d").chmod(mode)
    if killed:
        kill(taken)
        sweep(index)
    else:
        taken.clear()
    assert ["in"] == os.listdir(project)
    assert ["a"] == notes(index)
    again = Placeholders("a", os.getuid())
    again.take(str(project / "z"), FILE)
    (project / "in/d").chmod(0o700)
    assert ["d", "in", "x", "y", "z"] == sorted(path.name for path in project.rglob("*"))
    again.clear()
    assert ["in"] == [path.name for path in project.rglob("*")]
    assert [] == notes(index)


def test_an_end_removes_what_others_left(index: Path, project: Path) -> None:
    """Whoever removes its own may be master of ids that the one who looked at the start wasn't."""
    killed, taken = Placeholders("a", os.getuid()), Placeholders("b", os.getuid())
    killed.take(str(project / "x"), SOCKET)
    kill(killed)
    taken.clear()
    assert [] == os.listdir(project)
    assert [] == notes(index)
