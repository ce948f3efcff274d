"""The command `fuse-overlay` and its command line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fuse_overlay import options
from fuse_overlay.errors import OverlayError

if TYPE_CHECKING:
    from tests.overlay.conftest import Mounted

COMMAND = (sys.executable, "-m", "fuse_overlay.cli")


def fuse_overlay(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60)


def in_namespace(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script as root of a user namespace."""
    shell = ["unshare", "-Urm", "bash", "-euc", script]
    return subprocess.run(shell, capture_output=True, text=True, check=False, timeout=60)


def test_options_in_several_pieces() -> None:
    """-o may come more than once, with colons and commas escaped."""
    command = options.parse(["-olowerdir=a\\:b:c\\,d", "-f", "-o", "upperdir=u,workdir=w,allow_other,fancy=1", "m"])
    assert (b"a:b", b"c,d") == command.lowers
    assert (b"u", b"w", b"m") == (command.upper, command.work, command.mountpoint)
    assert (("fancy=1",), frozenset({"allow_other"}), True) == (command.ignored, command.mount, command.foreground)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no mountpoint"),
        (["m"], "no lowerdir"),
        (["-o", "lowerdir=a,upperdir=b", "m"], "upperdir and workdir need each other"),
        (["-o", "lowerdir=", "m"], "lowerdir needs a directory"),
        (["-x", "m"], "unknown option -x"),
        (["-o", "lowerdir=a", "name", "m", "n"], "more than one mountpoint: name m n"),
        (["-o", "lowerdir=a", "-o", "lowerdir=b", "m"], "lowerdir is given twice: a and b"),
        (["-o", "lowerdir=a,upperdir=b,workdir=c,upperdir=d", "m"], "upperdir is given twice: b and d"),
        (["-o", "lowerdir=a,ro", "-o", "rw", "m"], "ro and rw contradict each other"),
    ],
)
def test_bad_options(arguments: list[str], message: str) -> None:
    """A wrong command line is an error that says what is wrong with it."""
    with pytest.raises(OverlayError) as caught:
        options.parse(arguments)
    assert message == str(caught.value)


def test_version_and_help() -> None:
    """Both go to stdout and succeed."""
    assert fuse_overlay("--version").stdout.startswith("fuse-overlay: version ")
    assert fuse_overlay("--help").stdout.startswith("usage: fuse-overlay ")


def test_it_is_a_type_for_mount(mounted: Mounted) -> None:
    """`mount -t fuse.fuse-overlay NAME MOUNTPOINT`, as in fstab(5): mount.fuse3(8) calls it with the name first."""
    (mounted.lower / "f").write_text("below")
    if (place := shutil.which("fuse-overlayfs")) is None:
        pytest.skip("no fuse-overlayfs")
    where = f"lowerdir={mounted.lower},upperdir={mounted.upper},workdir={mounted.work}"
    script = (
        # mount.fuse3 looks for the command in a PATH of its own; any file there serves as its place.
        f"mount --bind {Path(sys.executable).with_name('fuse-overlay')} {place}; "
        f"mount -t fuse.fuse-overlayfs my,name {mounted.merged} -o {where},noatime; "
        f"cat {mounted.merged}/f; findmnt -n -o SOURCE,FSTYPE {mounted.merged}; umount {mounted.merged}"
    )
    result = in_namespace(script)
    assert (0, "") == (result.returncode, result.stderr)
    assert ["belowmy,name", "fuse.fuse-overlay"] == result.stdout.split()


def test_it_mounts_behind_the_scenes(mounted: Mounted) -> None:
    """Relative paths, a daemon that is ready when the command returns, an unknown option that is named."""
    (mounted.lower / "f").write_text("below")
    script = (
        f"cd {mounted.base}; {' '.join(COMMAND)} -o lowerdir=lower -o upperdir=upper,workdir=work,volatile merged; "
        "cat merged/f; echo above >merged/f; umount merged"
    )
    result = in_namespace(script)
    assert (0, "below") == (result.returncode, result.stdout)
    assert "fuse-overlay: unknown option volatile ignored\n" == result.stderr
    assert "above\n" == (mounted.upper / "f").read_text()


def test_without_an_upper_it_is_read_only(mounted: Mounted) -> None:
    """Two lower directories alone can be read."""
    (mounted.lower / "f").write_text("f")
    (mounted.upper / "g").write_text("g")
    result = in_namespace(
        f"cd {mounted.base}; {' '.join(COMMAND)} -o lowerdir=lower:upper merged; cat merged/f merged/g; "
        "touch merged/h || echo no; umount merged"
    )
    assert (0, "fgno\n") == (result.returncode, result.stdout)


def test_it_stays_in_the_foreground(mounted: Mounted) -> None:
    """With -f it serves until it is unmounted, then succeeds."""
    result = in_namespace(
        f"cd {mounted.base}; {' '.join(COMMAND)} -f -o lowerdir=lower merged & "
        "while ! mountpoint -q merged; do sleep 0.05; done; umount merged; wait $!; echo done"
    )
    assert (0, "done\n") == (result.returncode, result.stdout)


def test_sigterm_unmounts(mounted: Mounted) -> None:
    """SIGTERM ends the server with its mount, whatever was written is in the upper."""
    result = in_namespace(
        f"cd {mounted.base}; {' '.join(COMMAND)} -f -o lowerdir=lower,upperdir=upper,workdir=work merged & "
        "while ! mountpoint -q merged; do sleep 0.05; done; echo x >merged/f; kill $!; wait $! || true; "
        "grep -c merged /proc/self/mountinfo || true"
    )
    assert (0, "0\n") == (result.returncode, result.stdout)
    assert "x\n" == (mounted.upper / "f").read_text()


def test_a_live_lower_directory(mounted: Mounted) -> None:
    """With `live`, what somebody else changes below is seen soon."""
    (mounted.lower / "f").write_text("old")
    result = in_namespace(
        f"""{" ".join(COMMAND)} -o live,lowerdir={mounted.lower},upperdir={mounted.upper},workdir={mounted.work} \
            {mounted.merged}
        cd {mounted.merged}
        [ "$(cat f)" = old ]; echo newer >{mounted.lower}/f
        for n in $(seq 100); do sleep 0.1; [ "$(cat f)" = newer ] && break; done
        cat f; cd /; umount {mounted.merged}"""
    )
    assert ("newer\n", "") == (result.stdout, result.stderr)
