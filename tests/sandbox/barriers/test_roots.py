"""Attack: root file systems that are traps, a previous run's own layer among them. Barrier: look-ups in the root only.

Symlinks in the places of mounts and files are tried out in tests/sandbox/test_hostile_root.py.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.running import store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Count
    from tests.sandbox.running import Sandboxes


@pytest.fixture
def tree(tmp_path: Path, program: Callable[[str], Path]) -> Path:
    """A root file system with busybox in it."""
    root = tmp_path / "root"
    for name in ("bin", "etc", "proc", "dev", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(program("busybox"), root / "bin" / "busybox")
    for name in ("sh", "ls", "cat", "readlink"):
        (root / "bin" / name).symlink_to("busybox")
    return root


# Symlinks to everywhere, in every place that sb mounts on or writes to.
TRAPS = """
    for name in passwd group resolv.conf; do
        rm -f /etc/$name
        ln -s ../../../../../../../$1/$name /etc/$name
    done
    rm -rf /srv /mnt; ln -s $1 /srv; ln -s /proc/1/root /mnt
    """


def test_a_previous_runs_layer_as_the_root(sb: Sandboxes, tmp_path: Path, program: Callable[[str], Path]) -> None:
    """The upper layer that a sandbox has left, taken as a root file system: its symlinks lead nowhere outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    prepared = f"mkdir /bin.new && cp {program('busybox')} /bin.new/busybox && ln -s busybox /bin.new/sh"
    done = sb("-q", "--name", "evil", "--", "sh", "-c", f"{prepared}; {TRAPS}", "sh", str(outside))
    assert 0 == done.returncode, done.stderr
    layer = next(store(sb).glob("*/upper"))
    root = tmp_path / "root"
    shutil.copytree(layer, root, symlinks=True, ignore=lambda _, names: [n for n in names if n.startswith(".wh.")],
                    copy_function=copy_if_regular)  # fmt: skip
    (root / "bin").symlink_to("bin.new")
    assert "secret" == (root / "srv" / "secret").read_text(), "the control: outside they lead there"
    script = "cat /srv/secret; echo x >/etc/passwd; echo y >/srv/y; read name </etc/hostname && echo named; echo end"
    ran = sb("-q", "--rootfs", str(root), "--", "sh", "-c", script)
    assert "secret" not in ran.stdout
    assert ran.stdout.endswith("end\n"), ran.stderr
    assert ["secret"] == os.listdir(outside)
    assert 0 == sb.command("rm", "evil").returncode


def copy_if_regular(source: str, target: str) -> None:
    """Copy a file, but no whiteout: who isn't root can't make one elsewhere."""
    if os.path.isfile(source):
        shutil.copy2(source, target)


def test_dots_in_links(sb: Sandboxes, tree: Path) -> None:
    """`..` above the root is the root, in symlinks too; outside the same link leaves the tree."""
    (tree / "up").symlink_to("../../../../../../../../../../../../etc")
    (tree / "etc" / "mark").write_text("inside\n")
    assert "inside\n" == sb("-q", "--rootfs", str(tree), "cat", "/up/mark").stdout
    assert not (tree / "up" / "mark").exists()
    assert (tree / "up" / "passwd").exists()


# Swaps a directory and a symlink out of the tree, as fast as it goes.
SWAP = """
import os, sys
tree, outside = sys.argv[1:]
os.symlink(outside, f"{tree}/other")
while True:
    for name in ("dev", "proc", "sys"):
        os.rename(f"{tree}/{name}", f"{tree}/spare")
        os.rename(f"{tree}/other", f"{tree}/{name}")
        os.rename(f"{tree}/{name}", f"{tree}/other")
        os.rename(f"{tree}/spare", f"{tree}/{name}")
"""


def test_races_while_mountpoints_are_made(sb: Sandboxes, tree: Path, tmp_path: Path, count: Count) -> None:
    """Somebody swaps the places of mounts for symlinks meanwhile: each run starts or is refused, and nothing leaks."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "swap.py").write_text(SWAP)
    swapper = sb.start_shell(f"exec {sys.executable} -I {tmp_path}/swap.py {tree} {outside}")
    started = 0
    for _ in range(count(10, 200)):
        done = sb("-q", "--rootfs", str(tree), "sh", "-c", "echo x >/dev/null; echo ran")
        assert done.returncode in (0, 2, 125), done.stderr
        assert "internal error" not in done.stderr
        started += done.stdout == "ran\n"
        assert [] == os.listdir(outside)
    assert started, "the control: some come through"
    assert None is swapper.poll(), "the control: it swaps to the end"


def test_special_files_in_the_places_of_mounts(sb: Sandboxes, tree: Path) -> None:
    """A FIFO, a socket or a plain file where a mount belongs: refused in a line, not waited for."""
    for make in (os.mkfifo, lambda path: path.touch()):
        (tree / "proc").rmdir()
        make(tree / "proc")
        done = sb("-q", "--rootfs", str(tree), "sh", "-c", "echo ran")
        assert (125, "") == (done.returncode, done.stdout)
        assert done.stderr.startswith("sb: cannot mount /proc: ")
        (tree / "proc").unlink()
        (tree / "proc").mkdir()
    assert "ran\n" == sb("-q", "--rootfs", str(tree), "sh", "-c", "echo ran").stdout
