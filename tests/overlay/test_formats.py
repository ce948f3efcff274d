"""Layers are shared with others: the kernel's overlayfs and fuse-overlayfs read what we write, and we read theirs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.overlay.conftest import Contents, Mounted, Plant, Stage

OURS = f"{sys.executable} -m fuse_overlay.cli -o"
MOUNTS = {
    "ours": OURS,
    "kernel": "mount -t overlay overlay -o userxattr,",
    "fuse-overlayfs": "fuse-overlayfs -o",
}
OTHERS = ("kernel", "fuse-overlayfs")

BEFORE: dict[str, Contents] = {
    "gone": {"a": b""},
    "again": {"old": b"", "sub": {"deep": b"deep"}},
    "moved": {"sub": {"y": b"y"}},
    "d": {"x": b"x", "z": b"z", "e": {"f": b"f"}},
    "f": b"f\n",
    "to-directory": b"file",
    "to-file": {"was": b"a directory"},
    "link": "d/x",
}
# One generation of changes, and one on top of it.
FIRST = """
rm -r gone; rm d/x; rm -r again; mkdir again; echo new >again/new; mv moved elsewhere; echo more >>f; ln -sfn f link
rm to-directory; mkdir to-directory; echo in >to-directory/in; rm -r to-file; echo file >to-file; mkfifo pipe
chmod 700 d/e; chmod 600 f; setfattr -n user.mine -v value f; mkdir empty; truncate -s 1M sparse
"""
SECOND = """
rm -r again; echo gone >gone; rm elsewhere/sub/y; mkdir d/x; echo y >d/x/y; rm -r to-directory; echo f >to-directory
rm to-file; mkdir to-file; echo g >to-file/was; mv d/e e; rm link pipe; rmdir empty; cat f >>f2; rm -r elsewhere
mkdir again; mkdir again/sub
"""
# All that a layer is to tell: names, types, modes, targets, contents and attributes.
LOOK = """
find . -mindepth 1 -printf '%P %y %m %l\\n' | sort; find . -type f -print0 | sort -z | xargs -0 md5sum
find . -type f -print0 | sort -z | xargs -0 getfattr -d -m '^user.mine' 2>/dev/null
"""


def merged(kind: str, options: str, place: Path, script: str) -> str:
    """Mount an overlay, run a script in it, unmount. Returns what the script printed."""
    mount = f"{MOUNTS[kind]}{' ' if kind != 'kernel' else ''}{options} {place} || exit 77"
    whole = f"{mount}; cd {place}; set -e; umask 022; {script}\ncd /; umount {place}"
    result = subprocess.run(["unshare", "-Urm", "bash", "-c", whole], capture_output=True, text=True, check=False)
    if result.returncode == 77 and kind != "ours":
        pytest.skip(f"{kind}: no overlay can be mounted: {result.stderr.strip()}")
    assert 0 == result.returncode, result.stderr
    return result.stdout


def writable(mounted: Mounted) -> str:
    """The options for an overlay with an upper."""
    return f"lowerdir={mounted.lower},upperdir={mounted.upper},workdir={mounted.work}"


def on_plain(base: Path, lower: Path, script: str) -> str:
    """What a script prints in a plain copy of the lower directory."""
    plain = base / "plain"
    shutil.copytree(lower, plain, symlinks=True)
    result = subprocess.run(
        ["unshare", "-Ur", "bash", "-ec", f"umask 022; {script}"], cwd=plain, capture_output=True, text=True, check=True
    )
    return result.stdout


@pytest.fixture
def generations(mounted: Mounted, plant: Plant) -> Callable[..., str]:
    """Runs FIRST in one's overlay, SECOND in another's on top of it, and looks at it with a third's."""
    plant(mounted.lower, BEFORE)

    def run(first: str, second: str, third: str) -> str:
        upper, work = mounted.base / "second", mounted.base / "second-work"
        upper.mkdir()
        work.mkdir()
        below = f"{mounted.upper}:{mounted.lower}"
        merged(first, writable(mounted), mounted.merged, FIRST)
        merged(second, f"lowerdir={below},upperdir={upper},workdir={work}", mounted.merged, SECOND)
        return merged(third, f"lowerdir={upper}:{below}", mounted.merged, LOOK)

    return run


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("places", ["100", "010", "001", "110", "101", "011"])
def test_layers_are_read_alike(
    mounted: Mounted, generations: Callable[..., str], tmp_path: Path, other: str, places: str
) -> None:
    """Whoever writes the first layer, the second one, and reads: what is there is what a plain directory has then."""
    kinds = [other if place == "1" else "ours" for place in places]
    assert on_plain(tmp_path, mounted.lower, f"{FIRST}{SECOND}{LOOK}") == generations(*kinds)


@pytest.mark.parametrize("other", OTHERS)
def test_an_upper_is_gone_on_with(mounted: Mounted, plant: Plant, tmp_path: Path, other: str) -> None:
    """An upper that the other one has written is ours to write on, and the other way round."""
    plant(mounted.lower, BEFORE)
    options = writable(mounted)
    merged(other, options, mounted.merged, FIRST)
    merged("ours", options, mounted.merged, SECOND)
    expected = on_plain(tmp_path, mounted.lower, f"{FIRST}{SECOND}{LOOK}")
    assert expected == merged(other, options, mounted.merged, LOOK)
    assert expected == merged("ours", options, mounted.merged, LOOK)


def test_fuse_overlayfs_reads_our_records(mounted: Mounted) -> None:
    """Modes that the real file can't have are shown; the kernel's overlayfs shows the real ones."""
    (mounted.lower / "f").write_bytes(b"")
    options = writable(mounted)
    modes = "stat -c '%n %a' f g d"
    written = merged("ours", options, mounted.merged, f"chmod 4755 f; touch g; chmod 0 g; mkdir -m 1777 d; {modes}")
    assert "f 4755\ng 0\nd 1777\n" == written
    assert written == merged("fuse-overlayfs", options, mounted.merged, modes)
    assert "f 755\ng 600\nd 777\n" == merged("kernel", options, mounted.merged, modes)


def test_we_read_fuse_overlayfs_records(mounted: Mounted) -> None:
    """Its own kind of record is read, and a later change of ours counts more."""
    (mounted.lower / "f").write_bytes(b"")
    options = writable(mounted)
    modes = "stat -c '%n %a' f g d"
    changes = f"chmod 4755 f; touch g; chmod 2640 g; mkdir -m 1777 d; {modes}"
    written = merged("fuse-overlayfs", f"{options},xattr_permissions=2", mounted.merged, changes)
    assert "f 4755\ng 2640\nd 1777\n" == written == merged("ours", options, mounted.merged, modes)
    assert "f 711\ng 4700\nd 1777\n" == merged("ours", options, mounted.merged, f"chmod 711 f; chmod 4700 g; {modes}")
    assert "f 711\ng 4700\nd 1777\n" == merged("ours", options, mounted.merged, modes)


@pytest.mark.parametrize("other", OTHERS)
def test_hard_links_over_copy_up_are_two_files_elsewhere(mounted: Mounted, other: str) -> None:
    """What the others can't express: names that our copy doesn't have yet show the lower file there."""
    (mounted.lower / "a").write_bytes(b"old\n")
    os.link(mounted.lower / "a", mounted.lower / "b")
    options = writable(mounted)
    merged("ours", options, mounted.merged, "echo new >a")
    assert "new\nold\n" == merged(other, f"lowerdir={mounted.upper}:{mounted.lower}", mounted.merged, "cat a b")
    assert "new\nnew\n" == merged("ours", options, mounted.merged, "cat a b")
    assert "new\nnew\n" == merged(other, f"lowerdir={mounted.upper}:{mounted.lower}", mounted.merged, "cat a b")


def test_whiteouts_that_are_files(mounted: Mounted, stage: Stage) -> None:
    """An empty file with the kernel's attribute is a whiteout where the directory and the layer's root say so."""
    stage.lower("bottom", {"d": {"a": b"a", "b": b"b", "c": b"c"}, "plain": {"a": b"a"}})
    top = stage.lower("top", {"d": {"a": b"", "b": b"", "c": b"full"}, "plain": {"a": b""}})
    place = stage.base / "top"
    for marked in ("d/a", "d/c", "plain/a"):
        os.setxattr(place / marked, "user.overlay.whiteout", b"")
    assert ["a", "b", "c"] == stage.over(top, stage.lower("bottom", {})).ls("d")
    for directory in (".", "d"):
        os.setxattr(place / directory, "user.overlay.opaque", b"x")
    driver = stage.over(top, stage.lower("bottom", {}))
    assert (["b", "c"], ["a"]) == (driver.ls("d"), driver.ls("plain"))
    assert not driver.exists("d/a")
    driver.write("d/a", b"new")
    assert (b"new", b"", b"full") == (driver.read("d/a"), driver.read("d/b"), driver.read("d/c"))
    options = f"lowerdir={place}:{stage.base / 'bottom'}"
    for kind in ("ours", "kernel"):
        assert "b\nc\na\n" == merged(kind, options, mounted.merged, "ls d; ls plain")
