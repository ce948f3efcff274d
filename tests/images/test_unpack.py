"""Layers become directory trees in the overlay's format: owners and modes as records, whiteouts, devices, links."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import stat
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from fuse_overlay import indexes, ownership, whiteout
from rootless_sb.errors import SbError
from rootless_sb.image import decompression
from rootless_sb.kernel import trees
from tests.conftest import CHECKOUT
from tests.images.archives import LINK, Member, archive, directory, link, names, symlink, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def record(path: Path) -> bytes:
    """The owner's record of a file that carries it itself."""
    return os.getxattr(path, ownership.XATTR)


def indexed(directory: Path, name: bytes) -> dict[bytes, bytes]:
    """The attributes of a file that stand in its directory's index."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return indexes.Indexes(1).get(fd, name, 0)
    finally:
        os.close(fd)


def test_files_belong_to_the_user_and_owners_are_records(tmp_path: Path) -> None:
    """Whatever the archive says, the real file can be read, changed and removed by who unpacked it."""
    data = archive(
        directory("etc", 0o000, uid=1, gid=2),
        Member("etc/shadow", b"secret", mode=0o000, uid=0, gid=42),
        Member("bin/su", b"#!", mode=0o4755),
        directory("tmp", 0o1777),
        Member("big", b"x", uid=4_000_000_000, gid=7),
    )
    layer = tmp_path / "layer"
    found = unpacked(layer, data)
    assert (f"sha256:{hashlib.sha256(data).hexdigest()}", 9, 5) == found
    for name, kept, real in (
        ("etc", b"1:2:00", 0o700),
        ("etc/shadow", b"0:42:00", 0o600),
        ("bin/su", b"0:0:04755", 0o755),
        ("tmp", b"0:0:01777", 0o777),
        ("big", b"4000000000:7:0644", 0o644),
        ("bin", b"0:0:0755", 0o755),
        (".", b"0:0:0755", 0o755),
    ):
        assert kept == record(layer / name), name
        if name != ".":
            assert real == stat.S_IMODE((layer / name).stat().st_mode), name
        assert os.getuid() == (layer / name).stat().st_uid
    assert b"secret" == (layer / "etc/shadow").read_bytes()


def test_times_are_kept(tmp_path: Path) -> None:
    """To the nanosecond, for directories that get files later too, and before 1970."""
    data = archive(
        Member("d", kind=tarfile.DIRTYPE, mode=0o755, pax={"mtime": "1234567890.123456789"}),
        Member("d/f", pax={"mtime": "-5.5"}),
        symlink("d/s", "f"),
        Member("far", pax={"mtime": "99999999999999"}),
    )
    unpacked(tmp_path / "layer", data)
    assert 1234567890_123456789 == (tmp_path / "layer/d").stat().st_mtime_ns
    assert -5_500_000_000 == (tmp_path / "layer/d/f").stat().st_mtime_ns
    assert 1_000_000_000 == (tmp_path / "layer/d/s").lstat().st_mtime
    assert (tmp_path / "layer/far").stat().st_mtime > 10_000_000_000


def test_what_cannot_carry_a_record_has_one_in_the_index(tmp_path: Path) -> None:
    """Symlinks and FIFOs; a device node is an empty file with a record."""
    data = archive(
        symlink("d/link", "/etc/passwd")._replace(uid=5, gid=6),
        Member("d/pipe", kind=tarfile.FIFOTYPE, mode=0o620, uid=7),
        Member("dev/null", kind=tarfile.CHRTYPE, mode=0o666, device=(1, 3)),
        Member("dev/sda", kind=tarfile.BLKTYPE, mode=0o660, gid=6, device=(8, 0)),
        link("d/other", "d/link"),
    )
    layer = tmp_path / "layer"
    unpacked(layer, data)
    assert "/etc/passwd" == os.readlink(layer / "d/link") == os.readlink(layer / "d/other")
    assert {ownership.XATTR: b"5:6:0777"} == indexed(layer / "d", b"link") == indexed(layer / "d", b"other")
    assert {ownership.XATTR: b"7:0:0620"} == indexed(layer / "d", b"pipe")
    assert stat.S_ISFIFO((layer / "d/pipe").stat().st_mode)
    assert (b"0:0:0666:char-1-3", b"0:6:0660:block-8-0") == (record(layer / "dev/null"), record(layer / "dev/sda"))


def test_hard_links_share_one_file(tmp_path: Path) -> None:
    """Two names of one file are two names of one file; a link to itself is nothing."""
    layer = tmp_path / "layer"
    unpacked(layer, archive(Member("a/one", b"x"), link("b/two", "a/one"), link("a/one", "./a/one")))
    assert (layer / "a/one").stat().st_ino == (layer / "b/two").stat().st_ino
    assert 2 == (layer / "a/one").stat().st_nlink


def is_whiteout(path: Path) -> bool:
    """Whether overlayfs takes the file for a whiteout."""
    return whiteout.is_whiteout(path.lstat())


def test_whiteouts(tmp_path: Path) -> None:
    """They take lower files away; what the same layer has by that name stays, whichever comes first."""
    layer = tmp_path / "layer"
    unpacked(
        layer,
        archive(
            Member("gone/.wh.file"),
            Member(".wh..wh.plnk"),
            Member("opaque/.wh..wh..opq"),
            Member(".wh.before"),
            Member("before/x"),
            Member("after/x"),
            Member(".wh.after"),
            Member(".wh.replaced"),
            Member("replaced", b"new"),
        ),
    )
    seen = {name.replace(".wh.", "") for name in names(layer)}  # old kernels' whiteouts are files of such names
    assert {"gone", "gone/file", "opaque", "before", "before/x", "after", "after/x", "replaced"} == seen
    assert (layer / "gone/.wh.file").exists() or is_whiteout(layer / "gone/file")
    for name in ("opaque", "before", "after"):
        assert b"y" == os.getxattr(layer / name, whiteout.OPAQUE_XATTR), name
    assert b"new" == (layer / "replaced").read_bytes()


def test_the_last_of_a_name_counts(tmp_path: Path) -> None:
    """Files, directories and links that have one name replace each other; a directory's files stay in it."""
    layer = tmp_path / "layer"
    unpacked(
        layer,
        archive(
            Member("f", b"old"),
            Member("f", b"new", uid=3),
            symlink("s", "/etc"),
            directory("s", uid=4),
            Member("s/in"),
            Member("d/in"),
            directory("d", 0o700, uid=5),
            Member("d/two/in"),
            symlink("t/link", "x")._replace(uid=9),
            Member("t", b"a file now"),
            link("g", "f"),
            Member("g", b"own"),
        ),
    )
    assert {"f", "s", "s/in", "d", "d/in", "d/two", "d/two/in", "t", "g"} == names(layer)
    assert (b"new", b"own") == ((layer / "f").read_bytes(), (layer / "g").read_bytes())
    assert (b"3:0:0644", b"4:0:0755", b"5:0:0700") == (record(layer / "f"), record(layer / "s"), record(layer / "d"))


def test_attributes(tmp_path: Path) -> None:
    """user.* attributes and capabilities go along; what means something to an overlay can't be smuggled in."""
    pax = {
        "SCHILY.xattr.user.note": "a\nb",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.user.containers.override_stat": "0:0:4777",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.security.selinux": "x",
        "SCHILY.xattr.security.capability": "\x01\0\0\x02\0\x04" + "\0" * 14,
    }
    layer = tmp_path / "layer"
    unpacked(layer, archive(Member("f", pax=pax), Member("d", kind=tarfile.DIRTYPE, mode=0o755, pax=pax)))
    assert b"a\nb" == os.getxattr(layer / "f", "user.note") == os.getxattr(layer / "d", "user.note")
    kept = {"user.note", "user.containers.override_stat", "user.fuse-overlay.capability"}
    assert kept == set(os.listxattr(layer / "d")) == set(os.listxattr(layer / "f"))
    assert b"\x01\0\0\x02\0\x04" + bytes(14) == os.getxattr(layer / "f", "user.fuse-overlay.capability")
    assert b"0:0:0644" == record(layer / "f")


def test_names_are_bytes(tmp_path: Path) -> None:
    """What isn't UTF-8 stays as it is, and two forms of one letter are two files."""
    layer = tmp_path / "layer"
    odd = "caf\udce9"
    unpacked(
        layer,
        archive(Member(odd, form_a := b"1"), Member("é", form_a), Member("e\u0301", b"2"), form=tarfile.GNU_FORMAT),
    )
    assert {os.fsencode(odd), "é".encode(), "e\u0301".encode()} == set(os.listdir(os.fsencode(layer))) - {
        b".wh..wh.fuse-overlay"
    }


def test_long_paths_and_many_levels(tmp_path: Path) -> None:
    """A path as long as the kernel takes, deeper than any limit of descriptors."""
    name = "/".join(["d"] * 1500) + "/" + "n" * 255
    layer = tmp_path / "layer"
    unpacked(layer, archive(Member(name, b"deep")))
    assert b"deep" == (layer / name).read_bytes()
    above = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    trees.remove_tree(above, "layer")  # too deep for shutil.rmtree, which pytest would try
    os.close(above)


@pytest.mark.parametrize("form", ["0.0", "0.1", "1.0", "gnu"])
def test_sparse_files(tmp_path: Path, form: str) -> None:
    """All four formats of sparse files that GNU tar writes."""
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.seek(70_000)
        file.write(b"middle")
        file.truncate(200_000)
    kind = ["--format=gnu"] if form == "gnu" else ["--format=pax", f"--sparse-version={form}"]
    made = tmp_path / "made.tar"
    subprocess.run(["tar", *kind, "-cSf", made, "-C", tmp_path, "sparse"], check=True)
    unpacked(tmp_path / "layer", made.read_bytes())
    assert sparse.read_bytes() == (tmp_path / "layer/sparse").read_bytes()


def zstd(data: bytes) -> bytes:
    """Compress."""
    from backports import zstd as library

    return library.compress(data)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd])
def test_compressions(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    """Each gives the same tree and the digest of what was compressed; also in two members, one behind the other."""
    data = archive(Member("f", b"content" * 10_000))
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert digest == unpacked(tmp_path / "one", compress(data)).diff_id
    assert b"content" * 10_000 == (tmp_path / "one/f").read_bytes()
    if compress is not bytes:
        half = len(data) // 2
        assert digest == unpacked(tmp_path / "two", compress(data[:half]) + compress(data[half:])).diff_id


@pytest.mark.parametrize("there", [1, 2, 5])
def test_a_member_that_begins_where_a_read_ends(tmp_path: Path, there: int) -> None:
    """So few bytes of it are there at first that they don't say what it is."""
    data = archive(Member("f", b"content"))
    first = gzip.compress(data[:600], mtime=0)
    name = b"n" * ((1 << 18) - there - len(first) - 1)  # the member's file name: RFC 1952, 2.3
    blob = first[:3] + b"\x08" + first[4:10] + name + b"\0" + first[10:] + gzip.compress(data[600:])
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == unpacked(tmp_path / "layer", blob).diff_id


def test_frames_of_zstd_that_hold_nothing(tmp_path: Path) -> None:
    """They are skipped, at the beginning and at the end, where zstd:chunked has its table of contents."""
    data = archive(Member("f", b"content"))
    nothing = b"\x5e\x2a\x4d\x18\x05\0\0\0table"
    found = unpacked(tmp_path / "layer", nothing + zstd(data) + nothing + nothing)
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == found.diff_id


def test_kinds_are_known_by_their_beginning() -> None:
    """What a blob is counts, not what its type says."""
    assert ["gzip", "zstd", "bzip2", "xz", ""] == [
        decompression.kind_of(compress(b"x")) for compress in (gzip.compress, zstd, bz2.compress, lzma.compress, bytes)
    ]


ON_RAMFS = """
import os, sys
from pathlib import Path
from tests.images import archives, test_unpack
place = Path(sys.argv[1]) / "layer"
archives.unpacked(place, Path(sys.argv[2]).read_bytes())
print(test_unpack.indexed(place, b"d"), test_unpack.indexed(place / "d", b"f"), test_unpack.indexed(place, b"hard"))
gone = (place / "d/.wh.gone").exists() or test_unpack.is_whiteout(place / "d/gone")
print(test_unpack.indexed(place, b"."), gone, sorted(os.listdir(place / "o")))
"""


def test_a_file_system_without_attributes(tmp_path: Path) -> None:
    """There (ramfs) the records of all files are in indexes, and opaque marks are files."""
    made = tmp_path / "made.tar"
    made.write_bytes(
        archive(
            directory("d", uid=1),
            Member("d/f", b"x", uid=2, mode=0o4755),
            link("hard", "d/f"),
            Member("o/.wh..wh..opq"),
            Member("d/.wh.gone"),
        )
    )
    place = tmp_path / "ramfs"
    place.mkdir()
    command = f'mount -t ramfs none {place} && exec "$0" -c "$1" {place} {made}'
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", command, sys.executable, ON_RAMFS],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )
    xattr = ownership.XATTR
    shown = f"{ {xattr: b'1:0:0755'} } { {xattr: b'2:0:04755'} } { {xattr: b'2:0:04755'} }"
    assert [shown, f"{ {xattr: b'0:0:0755'} } True ['.wh..wh..opq']"] == done.stdout.splitlines(), done.stderr


def test_a_hard_link_needs_its_file(tmp_path: Path) -> None:
    """What isn't in the layer can't be linked to."""
    with pytest.raises(SbError, match="no file of the layer"):
        unpacked(tmp_path / "layer", archive(Member("a", kind=LINK, target="b")))


def test_a_directory_in_place_of_a_whiteout_has_a_record(tmp_path: Path) -> None:
    """One that comes into being by what is in it belongs to root, and hides what lower layers have."""
    layer = tmp_path / "layer"
    unpacked(layer, archive(Member(".wh.d"), Member("d/f")))
    assert (b"0:0:0755", b"y") == (record(layer / "d"), os.getxattr(layer / "d", whiteout.OPAQUE_XATTR))
