"""podman and sb side by side: one image, one tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.conftest import CHECKOUT
from tests.images.archives import Member, archive, directory, link, symlink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.images.conftest import Images
    from tests.images.layouts import Layout

# Name, type and mode, owner, group, size and time of a file, as both stat(1) have them.
_STAT = "%n|%f|%u|%g|%s|%Y"
# The same and more, by GNU find(1).
_PRINT = ("(", "-type", "d", "-printf", "%p|%y|%m|%U|%G\n", "-o", "-printf", "%p|%y|%m|%U|%G|%s|%T@|%n|%l\n", ")")
# What podman puts into its containers, or sb into its sandboxes.
_PROVIDED = ("/etc/hosts|", "/etc/hostname|", "/etc/resolv.conf|", "/etc/mtab|", "/run/.containerenv|")

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


def seen_by_podman(podman: list[str], source: str, script: str) -> str:
    """What a script says in podman's tree of the only image, which it pulls first."""
    subprocess.run([*podman, "pull", "-q", source], check=True, capture_output=True)
    identifier = subprocess.run([*podman, "images", "-q"], check=True, capture_output=True, text=True).stdout.split()[0]
    mount = f"cd $({' '.join(podman)} image mount {identifier}) || exit; {script}"
    done = subprocess.run([*podman, "unshare", "sh", "-c", mount], check=True, capture_output=True)
    return done.stdout.decode("utf-8", "replace")


def test_trees_owners_and_modes_are_equal(images: Images, layout: Layout, busybox: bytes, podman: list[str]) -> None:
    """As seen from inside, with all subordinate ids: each file has podman's type, mode, owner, size and time."""
    layout.image([busybox, *LAYERS], "x:1")
    images.image("load", "-q", "-i", str(layout.path))
    look = f"find . -xdev ! -type d -exec stat -c '{_STAT}' {{}} + ; "
    look += "find . -xdev -type d -exec stat -c '%n|%f|%u|%g' {} +"
    ours = images.inside("x:1", "sh", "-c", f"cd /; {look}")
    theirs = seen_by_podman(podman, f"oci:{layout.path}:x:1", look)
    provided = ("./etc/hosts|", "./etc/hostname|", "./etc/resolv.conf|", "./dev|", "./proc|", "./sys|", ".|")
    lines = [{line for line in text.splitlines() if not line.startswith(provided)} for text in (ours, theirs)]
    assert [set(), set()] == [lines[0] - lines[1], lines[1] - lines[0]]
    assert 40 < len(lines[0])


@pytest.fixture(scope="session")
def debian() -> Path:
    """The root file system that debootstrap makes of this distribution's packages, as an archive; kept in .venv."""
    made = CHECKOUT / ".venv/packages/debootstrap.tar"
    if made.exists():
        return made
    ways = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if shutil.which("debootstrap", path=ways) is None:
        pytest.skip("debootstrap isn't installed")
    if shutil.which("podman") is None:
        pytest.skip("podman isn't installed")
    # `container=lxc`: it then does without device nodes of its own.
    script = """
        set -- $(apt-get indextargets --format '$(RELEASE) $(SITE)' 'Created-By: Packages' | head -n 1)
        set -- "${1:-stable}" "$place/root" "${2:-http://deb.debian.org/debian}"
        container=lxc debootstrap --variant=minbase "$@" >&2
        tar -C "$place/root" --numeric-owner --exclude='./var/cache/apt/archives/*.deb' -cf "$place/made.tar" .
    """
    place = tempfile.mkdtemp(prefix="sb-", dir="/var/tmp")
    try:
        command = ["podman", "unshare", "sh", "-ec", script]
        done = subprocess.run(
            command, env={**os.environ, "PATH": ways, "place": place}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"debootstrap couldn't: {done.stderr.strip().splitlines()[-1:]}")
        made.parent.mkdir(exist_ok=True)
        shutil.move(f"{place}/made.tar", made)
    finally:
        subprocess.run(["podman", "unshare", "rm", "-rf", place], check=True)
    return made


def test_a_distribution(images: Images, podman: list[str], debian: Path) -> None:
    """What debootstrap has made, run by both: each file has the same type, mode, owner, size, time, links and target.

    In it packages can be installed and users added.
    """
    look = ("find", "/", "-xdev", "-mindepth", "1", *_PRINT)
    images.image("import", "-q", str(debian), "debian:1")
    ours = images.inside("debian:1", *look).splitlines()
    subprocess.run([*podman, "import", "-q", debian, "debian:1"], check=True, capture_output=True)
    run = [*podman, "run", "--rm", "--network=none", "--cgroups=disabled", "debian:1", *look]
    theirs = subprocess.run(run, check=True, capture_output=True, text=True).stdout.splitlines()
    lines = [{line for line in each if not line.startswith(_PROVIDED)} for each in (ours, theirs)]
    assert [set(), set()] == [lines[0] - lines[1], lines[1] - lines[0]]
    assert 3000 < len(lines[0])
    script = "useradd -m x && su x -c 'id -un; touch ~/mine' && stat -c %U /home/x/mine && dpkg --audit && dpkg -V"
    assert "x\nx\n" == images.inside("debian:1", "sh", "-c", script, options=("-q",))


DEVICES = archive(
    directory("nodes", 0o750, uid=5),
    Member("nodes/null", kind=tarfile.CHRTYPE, mode=0o666, device=(1, 3), uid=7, gid=8),
    Member("nodes/disk", kind=tarfile.BLKTYPE, mode=0o660, device=(254, 65536), gid=6),
    Member("nodes/gone", kind=tarfile.CHRTYPE, device=(1, 5)),
    Member("nodes/zero", kind=tarfile.CHRTYPE, device=(0, 0), mode=0o4600),
    Member("nodes/f", b"x", uid=9),
)
OVER_DEVICES = archive(
    directory("nodes", 0o750, uid=5),
    Member("nodes/.wh.gone"),
    Member("nodes/f", kind=tarfile.CHRTYPE, device=(1, 7), uid=1),
)


def test_device_nodes(loaded: Callable[..., str], images: Images, layout: Layout, podman: list[str]) -> None:
    """Rootless podman leaves them out; here they have the image's numbers, modes and owners, and open nothing."""
    name = loaded(DEVICES, OVER_DEVICES)
    form = "%n|%F|%t:%T|%a|%u|%g"
    ours = set(images.inside(name, "sh", "-c", f"cd nodes; stat -c '{form}' . *").splitlines())
    assert {
        ".|directory|0:0|750|5|0",
        "null|character special file|1:3|666|7|8",
        "disk|block special file|fe:10000|660|0|6",
        "zero|character special file|0:0|4600|0|0",
        "f|character special file|1:7|644|1|0",
    } == ours
    script = "cd nodes; for f in *; do cat $f; echo x >$f; done; echo end"
    shown = images("--image", name, "-q", "--", "sh", "-c", script)
    assert "end\n" == shown.stdout
    assert 2 * 4 == shown.stderr.count("Permission denied")
    theirs = seen_by_podman(podman, f"oci:{layout.path}:{name}", f"cd nodes; stat -c '{form}' . *; true")
    assert [line for line in ours if "special" not in line] == theirs.splitlines()


def test_hard_links_to_device_nodes(loaded: Callable[..., str], images: Images) -> None:
    """Both names are that device, where podman refuses the image."""
    null = Member("null", kind=tarfile.CHRTYPE, device=(1, 3), uid=7)
    shown = images.inside(loaded(archive(null, link("again", "null"))), "stat", "-c", "%F|%t:%T|%u", "null", "again")
    assert "character special file|1:3|7\n" * 2 == shown
