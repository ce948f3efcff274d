"""What is kept beside a layer makes its archive again, to the byte, and nothing else."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from rootless_sb.errors import SbError
from rootless_sb.image import tar_split
from tests.images.archives import Member, archive, directory, link, symlink, unpacked

if TYPE_CHECKING:
    from pathlib import Path

MEMBERS = (
    directory("d", 0o750, uid=3),
    Member("d/su", b"x" * 700, mode=0o4755, uid=1, gid=2, pax={"SCHILY.xattr.user.a": "b"}),
    Member("d/empty"),
    Member("large", os.urandom(700_000)),
    Member("café", b"y" * 512),
    symlink("d/link", "su"),
    link("again", "d/su"),
    Member("d/.wh.gone", b"a mark with content"),
    Member("null", kind=tarfile.CHRTYPE, device=(1, 3)),
    Member("n" * 200, b"a long name"),
)


def again(place: Path) -> bytes:
    """The archive of what was unpacked to a directory."""
    tree = os.open(place, os.O_RDONLY)
    try:
        with place.with_name(f"{place.name}.split").open("rb") as split:
            return b"".join(tar_split.join(split, tree))
    finally:
        os.close(tree)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("more", [b"", b"\0" * 51_200, b"\0" * 300_000])
def test_the_same_archive(tmp_path: Path, form: int, more: bytes) -> None:
    """With headers of any format, marks, links, and zeros at its end; the files' content is kept once."""
    data = archive(*MEMBERS, form=form) + more
    unpacked(tmp_path / "layer", data)
    assert data == again(tmp_path / "layer")
    assert 8000 > (tmp_path / "layer.split").stat().st_size


@pytest.mark.parametrize("options", [("--format=gnu",), ("--format=pax",), ("--format=posix", "--sparse-version=0.1")])
def test_sparse_files(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Their maps and their parts."""
    with (tmp_path / "sparse").open("wb") as file:
        for place in (0, 200_000, 500_000):
            file.seek(place)
            file.write(b"data" * 100)
        file.truncate(700_000)
    made = subprocess.run(["tar", "-cS", *options, "-C", tmp_path, "sparse"], capture_output=True, check=True).stdout
    assert len(made) < 100_000
    unpacked(tmp_path / "layer", made)
    assert made == again(tmp_path / "layer")


def test_files_that_are_others_by_now(tmp_path: Path) -> None:
    """One that is shorter, gone or something else is an error, and a symlink leads nowhere."""
    (tmp_path / "secret").write_bytes(b"s" * 100)
    unpacked(tmp_path / "layer", archive(Member("f", b"x" * 100)))
    place = tmp_path / "layer/f"
    place.write_bytes(b"short")
    with pytest.raises(SbError, match="isn't what it was"):
        again(tmp_path / "layer")
    place.unlink()
    with pytest.raises(FileNotFoundError):
        again(tmp_path / "layer")
    for target in ("../secret", str(tmp_path / "secret"), "/proc/self/environ"):
        place.symlink_to(target)
        with pytest.raises(FileNotFoundError):
            again(tmp_path / "layer")
        place.unlink()
    os.mkfifo(place)
    with pytest.raises(SbError, match="isn't what it was"):
        again(tmp_path / "layer")


def test_a_splitter_takes_pieces_of_any_size(tmp_path: Path) -> None:
    """A file's content can begin and end anywhere in the pieces."""
    data = bytes(range(256)) * 4
    for size in (1, 7, 100, 5000):
        file = (tmp_path / "split").open("wb")
        splitter = tar_split.Splitter(file.fileno())
        for start in range(0, len(data), size):
            splitter.read(memoryview(data)[start : start + size])
            for place, length in ((100, 0), (100, 150), (300, 600)):
                if start <= place < start + size:
                    splitter.content(place, b"f", 0, length)
        splitter.finish()
        file.close()
        parts = [data[0:100], data[250:300], data[900:]]
        assert b"".join(parts) == _without_files(tmp_path / "split")


def _without_files(split: Path) -> bytes:
    """What a split holds itself."""
    data, found = gzip.decompress(split.read_bytes()), b""
    while data:
        if data[:1] == b"B":
            (length,) = struct.unpack(">I", data[1:5])
            found, data = found + data[5 : 5 + length], data[5 + length :]
        else:
            data = data[19 + struct.unpack(">H", data[17:19])[0] :]
    return found
