"""Layers that were made to do harm: each is refused in one line, or does nothing outside its own tree."""

from __future__ import annotations

import gzip
import os
import random
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from rootless_sb.errors import SbError
from tests.images.archives import (
    DIRECTORY,
    LINK,
    SYMLINK,
    Member,
    archive,
    directory,
    link,
    names,
    symlink,
    unpacked,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Count


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory beside the layer, which must be as it was in the end."""
    victim = tmp_path / "outside"
    victim.mkdir()
    (victim / "file").write_text("untouched")
    before = (victim.stat().st_mtime_ns, (victim / "file").stat().st_mtime_ns, (victim / "file").stat().st_nlink)
    yield victim
    assert ["file"] == os.listdir(victim)
    assert "untouched" == (victim / "file").read_text()
    assert before == (
        victim.stat().st_mtime_ns,
        (victim / "file").stat().st_mtime_ns,
        (victim / "file").stat().st_nlink,
    )


def refused(place: Path, data: bytes, why: str) -> None:
    """Unpack; it must be refused with these words."""
    with pytest.raises(SbError, match=why):
        unpacked(place, data)


def test_an_absolute_path_is_one_of_the_layer(tmp_path: Path, outside: Path) -> None:
    """`/etc/passwd` is the layer's etc/passwd, however many slashes there are."""
    unpacked(tmp_path / "layer", archive(Member(f"/{outside}/file", b"evil"), Member("//etc//./passwd")))
    assert b"evil" == (tmp_path / f"layer/{outside}/file").read_bytes()
    assert (tmp_path / "layer/etc/passwd").exists()


@pytest.mark.parametrize("name", ["..", "../outside/file", "a/../../outside/file", "a/..", "/../outside/file"])
def test_a_path_with_dots_is_refused(tmp_path: Path, outside: Path, name: str) -> None:
    """For files and directories, and for what a hard link is to."""
    refused(tmp_path / "one", archive(Member(name, b"evil")), r"has \.\. in it")
    refused(tmp_path / "two", archive(directory(name)), r"has \.\. in it")
    refused(tmp_path / "three", archive(link("x", name)), r"has \.\. in it")
    refused(tmp_path / "four", archive(Member(f"{name}/.wh.x", b"")), r"has \.\. in it")


def test_a_symlink_leads_nowhere(tmp_path: Path, outside: Path) -> None:
    """No file is written, made, linked or taken away through one, nor through a chain of them."""
    way = symlink("way", str(outside))
    chain = (symlink("a", ".."), symlink("b", "a/outside"), symlink("c", "b"))
    why = "no directory"
    refused(tmp_path / "1", archive(way, Member("way/file", b"evil")), why)
    refused(tmp_path / "2", archive(way, directory("way/new")), why)
    refused(tmp_path / "3", archive(way, Member("way/.wh.file")), why)
    refused(tmp_path / "4", archive(way, Member("way/.wh..wh..opq")), why)
    refused(tmp_path / "5", archive(*chain, Member("c/file", b"evil")), why)
    refused(tmp_path / "6", archive(way, link("x", "way/file")), "no file of the layer")
    refused(tmp_path / "7", archive(symlink("way", "/"), Member("way/tmp/evil")), why)


def test_a_file_in_place_of_a_symlink(tmp_path: Path, outside: Path) -> None:
    """It replaces the symlink and leaves alone what that leads to; a directory and a hard link too."""
    file = symlink("x", str(outside / "file"))
    unpacked(tmp_path / "1", archive(file, Member("x", b"evil", mode=0o777)))
    unpacked(tmp_path / "2", archive(symlink("x", str(outside)), directory("x", 0o777), Member("x/new")))
    unpacked(tmp_path / "3", archive(file, Member("y", b"evil"), link("x", "y")))
    assert b"evil" == (tmp_path / "1/x").read_bytes() == (tmp_path / "3/x").read_bytes()


def test_a_hard_link_to_a_symlink_is_a_symlink(tmp_path: Path, outside: Path) -> None:
    """What is written over it replaces it, and doesn't go where it leads."""
    unpacked(tmp_path / "layer", archive(symlink("s", str(outside / "file")), link("h", "s"), Member("h", b"evil")))
    assert not (tmp_path / "layer/h").is_symlink()
    assert str(outside / "file") == os.readlink(tmp_path / "layer/s")


def test_whiteouts_of_nothing_and_of_names_that_cannot_be(tmp_path: Path, outside: Path) -> None:
    """Taking away what isn't there is fine; taking away `.`, `..` or no name at all is refused."""
    unpacked(tmp_path / "layer", archive(Member("no/such/.wh.file"), Member("x/.wh.y"), Member("x/.wh.y")))
    for name in (".wh.", ".wh..", ".wh...", "a/.wh..."):
        refused(tmp_path / name.replace("/", "-"), archive(Member(name)), "takes no name away")
    refused(tmp_path / "beneath", archive(Member(".wh.a/b")), "beneath a mark")
    refused(tmp_path / "linked", archive(Member("a"), link("b/.wh.c/d", "a")), "beneath a mark")


def test_marks_cannot_be_forged(tmp_path: Path) -> None:
    """The overlay's own index isn't taken from an archive, whatever kind of file it is there."""
    members = [Member(f"d/.wh..wh.fuse-overlay{end}", b"fovlidx1" + bytes(64)) for end in ("", ".new")]
    members += [Member(".wh..wh.fuse-overlay", kind=kind, target="x") for kind in (SYMLINK, DIRECTORY, LINK)]
    unpacked(tmp_path / "layer", archive(*members, Member("d/f")))
    assert {"d", "d/f"} == names(tmp_path / "layer")
    assert not (tmp_path / "layer/d/.wh..wh.fuse-overlay").exists()


def test_a_file_cannot_hold_files(tmp_path: Path) -> None:
    """`f/x` with a file `f`, or one that is a device."""
    refused(tmp_path / "1", archive(Member("f"), Member("f/x")), "no directory")
    refused(tmp_path / "2", archive(Member("f", kind=tarfile.CHRTYPE, device=(1, 3)), Member("f/x")), "no directory")


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, SYMLINK, LINK, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_the_root_stays_a_directory(tmp_path: Path, kind: bytes) -> None:
    """`.` and `/` can be listed as directories only."""
    for number, name in enumerate((".", "/", "./")):
        if name.endswith("/") and kind == tarfile.REGTYPE:
            continue  # which old tar programs mean a directory by
        refused(tmp_path / str(number), archive(Member(name, kind=kind, target="x")), "root of a layer|is none|no file")


def test_devices_are_only_records(tmp_path: Path) -> None:
    """No device node is made, not even a whiteout by its number; numbers that can't be are refused."""
    data = archive(Member("w", kind=tarfile.CHRTYPE), Member("sda", kind=tarfile.BLKTYPE, mode=0o666, device=(8, 0)))
    unpacked(tmp_path / "layer", data)
    assert (tmp_path / "layer/w").is_file()
    assert (tmp_path / "layer/sda").is_file()
    refused(tmp_path / "bad", archive(Member("x", kind=tarfile.CHRTYPE, device=(5000, 0))), "can't exist")


def test_bombs(tmp_path: Path) -> None:
    """Too large, too many files, too well compressed, headers without end: each names its limit."""
    zeros = archive(Member("zeros", bytes(700_000)))
    refused(tmp_path / "ratio", gzip.compress(zeros), "250 times its compressed")
    refused(tmp_path / "size", archive(*(Member(str(n), os.urandom(400_000)) for n in range(3))), "more than 1048576")
    refused(tmp_path / "files", archive(*(Member(str(n)) for n in range(201))), "200 are the limit")
    refused(tmp_path / "long", archive(Member("n/" * 3000 + "x", b"")), "4095 is the limit")
    refused(tmp_path / "part", archive(Member("n" * 256, b"")), "File name too long")
    refused(
        tmp_path / "headers", archive(Member("x", pax={"comment": "c" * 100_000})), "headers in the layer are too long"
    )
    refused(tmp_path / "gnu", archive(Member("x/" * 50_000 + "y"), form=tarfile.GNU_FORMAT), "are too long")


def test_a_sparse_bomb(tmp_path: Path) -> None:
    """A file that claims to be exabytes of nothing is too large."""
    pax = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "x", "GNU.sparse.size": str(1 << 62)}
    refused(tmp_path / "layer", archive(Member("x", pax={**pax, "GNU.sparse.map": "0,0"})), "too large")


@pytest.mark.parametrize("sparse_map", ["0,10,5,10", "0,-5", "100,50", "x,y", "-5,3", "5,5,0,5"])
def test_sparse_maps_that_make_no_sense(tmp_path: Path, sparse_map: str) -> None:
    """Parts that overlap, lie outside, go backwards or are no numbers."""
    pax = {"GNU.sparse.name": "x", "GNU.sparse.size": "20", "GNU.sparse.map": sparse_map}
    refused(tmp_path / "layer", archive(Member("x", b"0123456789", pax=pax)), "makes no sense|is damaged")


@pytest.mark.parametrize(
    "pax",
    [
        *({"size": "-1"}, {"size": "99999999999999999999"}),
        *({"uid": "-1"}, {"uid": "4294967295"}, {"gid": "5000000000"}),
        *({"mtime": "nan"}, {"mtime": "inf"}, {"mtime": "1.x"}),
        *({"path": "a\0b"}, {"path": "../x"}, {"linkpath": ""}),
    ],
)
def test_pax_headers_that_make_no_sense(tmp_path: Path, pax: dict[str, str]) -> None:
    """A pax header overrides what the other one says, and is checked as that is."""
    kind = SYMLINK if "linkpath" in pax else tarfile.REGTYPE
    try:
        unpacked(tmp_path / "layer", archive(Member("x", b"data", kind=kind, target="t", pax=pax)))
    except SbError:
        return
    assert pax in ({"linkpath": ""}, {"mtime": "nan"}, {"mtime": "inf"})  # which tarfile doesn't take over
    assert {"x"} == names(tmp_path / "layer")


@pytest.mark.parametrize("where", [1, 100, 511, 513, 700, 1025, 1500])
def test_streams_that_end_in_the_middle(tmp_path: Path, where: int) -> None:
    """In a header, in a file, and in what compresses it."""
    data = archive(Member("x", os.urandom(600)), form=tarfile.USTAR_FORMAT)
    if where != 1500:  # all of the file is there; the two empty blocks at the end may be lacking
        refused(tmp_path / "plain", data[:where], "is damaged")
    compressed = gzip.compress(data)
    refused(tmp_path / "gzip", compressed[: len(compressed) * where // 2000], "is damaged")


def test_garbage_between_files(tmp_path: Path) -> None:
    """What tarfile would take for the end of the archive is none."""
    good = archive(Member("a", b"x"), form=tarfile.USTAR_FORMAT)[:1024]
    refused(tmp_path / "layer", good + b"garbage!" * 128 + good, "is damaged")
    refused(tmp_path / "only", b"garbage!" * 128, "is damaged")
    refused(tmp_path / "tail", gzip.compress(good) + b"garbage", "garbage follows")
    refused(tmp_path / "empty", b"", "is damaged")


def test_a_tower_of_headers(tmp_path: Path) -> None:
    """Headers of headers of headers exhaust neither stack nor memory."""
    header = archive(Member("x", pax={"comment": "c"}))[:1024]
    refused(tmp_path / "layer", header * 2000, "is damaged|too long")


MUTATIONS = some.lists(some.tuples(some.integers(0, 1 << 14), some.integers(0, 255)), min_size=1, max_size=12)
SEED = archive(
    directory("d"),
    Member("d/f", b"content" * 50, uid=1000, mode=0o4755),
    symlink("d/s", "../x"),
    link("h", "d/f"),
    Member("d/.wh.gone"),
    Member("o/.wh..wh..opq"),
    Member("c", kind=tarfile.CHRTYPE, device=(1, 3)),
    Member("long/" * 40 + "x", b"y", pax={"mtime": "1.5", "SCHILY.xattr.user.a": "b"}),
)


def with_good_sums(data: bytearray) -> bytes:
    """The archive with the sums of all blocks that look like headers made right, so that more of it is believed."""
    for start in range(0, len(data) - 511, 512):
        if data[start + 257 : start + 262] == b"ustar":
            block = bytearray(data[start : start + 512])
            block[148:156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    return bytes(data)


def check_one(place: Path, data: bytes) -> None:
    """Unpack; whatever the bytes are, it works or is an SbError, and nothing appears beside the tree."""
    try:
        unpacked(place, data)
    except SbError:
        pass
    ours = {place.with_name(f"{place.name}.{part}") for part in ("blob", "split")}
    assert {place, *ours, place.parent / "outside"} >= set(place.parent.iterdir())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MUTATIONS)
def test_changed_bytes(tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]) -> None:
    """An archive with some bytes changed is unpacked or refused."""
    data = bytearray(SEED)
    for where, value in changes:
        data[where % len(data)] = value
    check_one(tmp_path_factory.mktemp("fuzz") / "layer", with_good_sums(data))


def test_any_order_of_any_files(tmp_path: Path, outside: Path, count: Count) -> None:
    """Names, kinds and links in any combination, a symlink to the outside among them, leave the outside alone."""
    seed = random.randrange(1 << 32)
    chosen = random.Random(seed)
    kinds = [tarfile.REGTYPE, DIRECTORY, SYMLINK, LINK, tarfile.CHRTYPE, tarfile.FIFOTYPE]
    parts = ["a", "b", "out", ".wh.a", ".wh..wh..opq", ".", ".."]
    for number in range(count(300, 20_000)):
        members = [
            Member(
                "/".join(chosen.choices(parts, (6, 6, 6, 1, 1, 1, 0.2), k=chosen.randint(1, 3))),
                b"evil",
                chosen.choice(kinds),
                chosen.choice([str(outside), "../outside", "a", "b/a", "out/file", "/"]),
                chosen.choice([0, 0o644, 0o7777]),
            )
            for _ in range(chosen.randint(1, 8))
        ]
        place = tmp_path / str(number)
        try:
            unpacked(place, archive(symlink("out", str(outside)), *members))
        except SbError:
            continue
        except BaseException:
            print(f"seed {seed}, {members}")
            raise
