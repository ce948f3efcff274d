"""Images that other programs build: umoci and buildah."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.images.conftest import Images


def run(*command: object) -> None:
    """Run a program, which must succeed."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root file system with a busybox."""
    busybox = shutil.which("busybox", path=f"{os.environ.get('PATH', '')}:/bin:/usr/bin")
    if busybox is None:
        pytest.skip("busybox isn't installed")
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(busybox, tree / "bin/busybox")
    (tree / "bin/sh").symlink_to("busybox")
    return tree


@pytest.fixture
def short_place() -> Iterator[Path]:
    """A directory with a path as short as containers/storage wants it; its files may be subordinate ids'."""
    place = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))
    yield place
    subprocess.run(["podman", "unshare", "rm", "-rf", str(place)], check=False)


def test_umoci(images: Images, root: Path, tmp_path: Path) -> None:
    """Two layers by umoci, the second with a whiteout; an owner that umoci keeps in an xattr of its own."""
    if shutil.which("umoci") is None:
        pytest.skip("umoci isn't installed")
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:x")
    run("umoci", "insert", "--rootless", "--image", f"{layout}:x", root, "/")
    run("umoci", "unpack", "--rootless", "--image", f"{layout}:x", bundle)
    (bundle / "rootfs/new").write_text("new")
    (bundle / "rootfs/bin/sh").rename(bundle / "rootfs/bin/ash")
    run("umoci", "repack", "--image", f"{layout}:x", bundle)
    run("umoci", "config", "--image", f"{layout}:x", "--config.env", "BUILT=umoci", "--config.entrypoint", "/bin/ash")
    images.image("load", "-q", "-i", str(layout))
    done = images("--image", "x", "--", "-c", "echo $BUILT; cd /bin; echo *; busybox cat /new")
    assert (0, "umoci\nash busybox\nnew") == (done.returncode, done.stdout), done.stderr


def test_buildah(images: Images, root: Path, short_place: Path) -> None:
    """A Containerfile's worth of buildah: copies with owners, a user, volumes, in docker's format and in OCI's."""
    if shutil.which("buildah") is None:
        pytest.skip("buildah isn't installed")
    place = short_place
    buildah = ("buildah", f"--root={place}/r", f"--runroot={place}/rr", "--storage-driver=vfs")
    run(*buildah, "from", "--name", "work", "scratch")
    run(*buildah, "copy", "work", root, "/")
    run(*buildah, "copy", "--chown", "7:8", "work", root / "bin/busybox", "/owned")
    run(*buildah, "config", "--env", "BUILT=buildah", "--cmd", "/bin/sh -c 'echo $BUILT'", "--volume", "/data", "work")
    for form in ("oci", "docker"):
        archive = place / f"{form}.tar"
        run(*buildah, "commit", "-q", "--format", form, "work", f"{form}-archive:{archive}:built:{form}")
        assert f"built:{form}" == images.image("load", "-q", "-i", str(archive)).strip().removeprefix("localhost/")
        called = next(name for name in images.names() if name.endswith(f"built:{form}"))
        assert "buildah\n" == images("--image", called).stdout
        assert "7 8\n" == images.inside(called, "/bin/busybox", "stat", "-c", "%u %g", "/owned")
