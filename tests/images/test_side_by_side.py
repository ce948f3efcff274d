"""podman and sb side by side: one image, one tree."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.images.archives import Member, archive, directory, link, symlink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.images.conftest import Images
    from tests.images.layouts import Layout

# Name, type and mode, owner, group, size and time of a file, as both stat(1) have them.
_STAT = "%n|%f|%u|%g|%s|%Y"

LAYERS = (
    archive(
        directory("a", 0o000, uid=1000, gid=1000),
        Member("a/hidden", b"in a directory that nobody may enter", mode=0o000, uid=7),
        directory("gone"),
        Member("gone/f", b"x"),
        directory("opaque", 0o2775, gid=8),
        Member("opaque/old", b"x"),
        Member("su", b"setuid", mode=0o4755),
        Member("sg", b"setgid", mode=0o2755, uid=3, gid=4),
        Member("one", b"linked", uid=33),
        link("two", "one")._replace(uid=33),
        symlink("dangling", "/no/such")._replace(uid=12, gid=13),
        Member("caps", b"c", mode=0o755, pax={"SCHILY.xattr.security.capability": "\x01\0\0\x02\0\x04" + "\0" * 14}),
        directory("sticky", 0o1777),
        Member("pipe", kind=tarfile.FIFOTYPE, mode=0o640, uid=9),
        Member("café", b"x"),
        Member("replaced-by-directory", b"x"),
        directory("replaced-by-file"),
        Member("replaced-by-file/x", b"x"),
    ),
    archive(
        Member(".wh.gone"),
        directory("opaque", 0o2775, gid=8),
        Member("opaque/.wh..wh..opq"),
        Member("opaque/new", b"y", uid=65534, gid=65534),
        Member("one", b"no longer linked", uid=34),
        link("three", "one")._replace(uid=34),
        directory("replaced-by-directory", 0o711, uid=1),
        Member("replaced-by-directory/in", b"z"),
        Member("replaced-by-file", b"w"),
        Member("a/.wh.nothing-there"),
        directory("a", 0o101, uid=1001),
    ),
    archive(
        directory("gone", 0o700, uid=2), Member("gone/other", b"back"), Member("su", b"changed", mode=0o4711, uid=20)
    ),
)


@pytest.fixture
def podman() -> Iterator[list[str]]:
    """podman with a storage of its own, in a place whose path is as short as podman wants it."""
    program = shutil.which("podman")
    if program is None:
        pytest.skip("podman isn't installed")
    place = tempfile.mkdtemp(prefix="sb-", dir="/tmp")
    command = [program, f"--root={place}/r", f"--runroot={place}/rr", "--storage-driver=vfs", "--log-level=error"]
    yield command
    subprocess.run([*command, "unshare", "rm", "-rf", place], check=True)


def test_trees_owners_and_modes_are_equal(images: Images, layout: Layout, busybox: bytes, podman: list[str]) -> None:
    """As seen from inside, with all subordinate ids: each file has podman's type, mode, owner, size and time."""
    layout.image([busybox, *LAYERS], "x:1")
    images.image("load", "-q", "-i", str(layout.path))
    look = f"find . -xdev ! -type d -exec stat -c '{_STAT}' {{}} + ; "
    look += "find . -xdev -type d -exec stat -c '%n|%f|%u|%g' {} +"
    ours = images.inside("x:1", "sh", "-c", f"cd /; {look}")
    subprocess.run([*podman, "pull", "-q", f"oci:{layout.path}:x:1"], check=True, capture_output=True)
    identifier = subprocess.run([*podman, "images", "-q"], check=True, capture_output=True, text=True).stdout.split()[0]
    mount = f"m=$({' '.join(podman)} image mount {identifier}); cd $m; "
    done = subprocess.run([*podman, "unshare", "sh", "-c", mount + look], check=True, capture_output=True)
    theirs = done.stdout.decode("utf-8", "replace")
    provided = ("./etc/hosts|", "./etc/hostname|", "./etc/resolv.conf|", "./dev|", "./proc|", "./sys|", ".|")
    lines = [{line for line in text.splitlines() if not line.startswith(provided)} for text in (ours, theirs)]
    assert [set(), set()] == [lines[0] - lines[1], lines[1] - lines[0]]
    assert 40 < len(lines[0])
