"""podman and sb side by side: one image, one tree."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.conftest import CHECKOUT
from tests.images.archives import Member, archive, directory, link, symlink
from tests.sandbox.running import SB

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
    # Not with its own storage, which it would make once more at its end.
    subprocess.run([program, "unshare", "rm", "-rf", place], check=True)


# A look at each file, of which a directory's size and time say nothing.
_LOOK = f"find . -xdev ! -type d -exec stat -c '{_STAT}' {{}} + ; "
_LOOK += "find . -xdev -type d -exec stat -c '%n|%f|%u|%g' {} +"
_NOT_OF_THE_IMAGE = ("./etc/hosts|", "./etc/hostname|", "./etc/resolv.conf|", "./dev|", "./proc|", "./sys|", ".|")


def of_the_image(text: str) -> set[str]:
    """The lines about files that are neither podman's nor sb's own."""
    return {line for line in text.splitlines() if not line.startswith(_NOT_OF_THE_IMAGE)}


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
    ours = of_the_image(images.inside("x:1", "sh", "-c", f"cd /; {_LOOK}"))
    theirs = of_the_image(seen_by_podman(podman, f"oci:{layout.path}:x:1", _LOOK))
    assert [set(), set()] == [ours - theirs, theirs - ours]
    assert 40 < len(ours)


def without_owners(lines: set[str]) -> set[str]:
    """The lines with root for every owner."""
    return {re.sub(r"^([^|]*\|[^|]*)\|[0-9]+\|[0-9]+", r"\1|0|0", line) for line in lines}


def test_one_id(loaded: Callable[..., str], images: Images) -> None:
    """Without subordinate ids every owner shows as root, and all else is as with them."""
    look = ("sh", "-c", f"cd /; {_LOOK}")
    name = loaded(*LAYERS)
    several = of_the_image(images.inside(name, *look))
    single = of_the_image(images.inside(name, *look, options=("--userns", "single")))
    assert without_owners(several) == single
    assert several != single


def test_a_store_made_where_nobody_makes_whiteouts(images: Images, layout: Layout, busybox: bytes) -> None:
    """On an old kernel, and on NFS, they are files `.wh.NAME`; the tree is the same, whoever looks at it."""
    layout.image([busybox, *LAYERS], "x:1")
    images.image("load", "-q", "-i", str(layout.path))
    look = ("sh", "-c", f"cd /; {_LOOK}")
    expected = of_the_image(images.inside("x:1", *look))
    assert 1 == sum(stat.S_ISCHR(path.lstat().st_mode) for path in images.store.glob("layers/*/tree/gone"))
    images.image("prune", "-af")
    old = str(CHECKOUT / "contrib/old-kernel")
    for command in (("image", "load", "-q", "-i", layout.path), ("run", "-q", "--image", "x:1", "--", *look)):
        done = subprocess.run([old, SB, *command], env=images.environment, capture_output=True, text=True, check=False)
        assert (0, "") == (done.returncode, done.stderr)
    assert 1 == len([*images.store.glob("layers/*/tree/.wh.gone")])
    assert expected == of_the_image(images.inside("x:1", *look))
    assert without_owners(expected) == of_the_image(done.stdout)  # contrib/old-kernel keeps newuidmap(1) from working


def test_a_store_without_attributes(images: Images, layout: Layout, busybox: bytes) -> None:
    """On ramfs, as on NFS, everything that is recorded lies in indexes; the tree is that of a store that has them."""
    layout.image([busybox, *LAYERS, DEVICES], "x:1")
    (images.place / "data").mkdir()
    script = """
        [ -z "$1" ] || mount -t ramfs none "$1" || exit
        "$0" image load -q -i "$2" >/dev/null && "$0" run -q --image x:1 -- sh -c "cd /; $3"
    """
    seen = []
    for place in ("", str(images.place / "data")):
        command = ["unshare", "-Urm", "sh", "-c", script, str(SB), place, str(layout.path), _LOOK]
        done = subprocess.run(command, env=images.environment, capture_output=True, text=True, check=False)
        assert (0, "") == (done.returncode, done.stderr)
        seen.append(of_the_image(done.stdout))
        if not place:
            images.image("prune", "-af")
    assert seen[0] == seen[1]
    assert 40 < len(seen[0])


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
