"""Layers are shared with others: the kernel's overlayfs reads what we write, and we read what it writes."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.overlay.conftest import Contents, Mounted, Plant, Stage

CHANGES = (
    "rm -r gone; rm d/x; rm -r again; mkdir again; echo new >again/new; mv moved elsewhere; echo more >>f; ln -s f link"
)
BEFORE: dict[str, Contents] = {
    "gone": {"a": b""},
    "again": {"old": b""},
    "moved": {"sub": {"y": b"y"}},
    "d": {"x": b"x", "z": b"z"},
    "f": b"f\n",
}
AFTER = ["again", "again/new", "d", "d/z", "elsewhere", "elsewhere/sub", "elsewhere/sub/y", "f", "link"]


def kernel_overlay(options: str, merged: Path, script: str) -> str:
    """Run a script in a mount of the kernel's overlayfs; returns what it printed."""
    mount = f"mount -t overlay overlay -o userxattr,{options} {merged} || exit 77; cd {merged}; set -e; {script}"
    result = subprocess.run(["unshare", "-Urm", "bash", "-c", mount], capture_output=True, text=True, check=False)
    if result.returncode == 77:
        pytest.skip("this kernel lets no user mount overlayfs")
    assert (0, "") == (result.returncode, result.stderr)
    return result.stdout


def test_the_kernel_reads_our_layers(mounted: Mounted, plant: Plant) -> None:
    """Whiteouts, opaque directories and moved directories of ours mean the same to it."""
    plant(mounted.lower, BEFORE)
    mounted.run(CHANGES)
    listed = kernel_overlay(
        f"lowerdir={mounted.upper}:{mounted.lower}", mounted.merged, "find . -mindepth 1 -printf '%P\\n'; cat f"
    ).split()
    assert [*AFTER, "f", "more"] == [*sorted(listed[:-2]), *listed[-2:]]


def test_we_read_the_kernels_layers(mounted: Mounted, plant: Plant, stage: Stage) -> None:
    """Its whiteouts and opaque directories mean the same to us."""
    plant(mounted.lower, BEFORE)
    options = f"lowerdir={mounted.lower},upperdir={mounted.upper},workdir={mounted.work}"
    kernel_overlay(options, mounted.merged, CHANGES)
    driver = stage.over(stage.lower("lower", {}))
    assert {name.partition("/")[0] for name in AFTER} == set(driver.ls())
    assert (["new"], ["z"], ["y"]) == (driver.ls("again"), driver.ls("d"), driver.ls("elsewhere/sub"))
    assert b"f\nmore\n" == driver.read("f")
