"""`sb diff`, `apply`, `try`, `export` and `cp` on sandboxes of images."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.images.archives import Member, archive, directory
from tests.sandbox.reviewing import at_a_terminal
from tests.sandbox.running import PATIENCE, SB, read_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.images.conftest import Images


@pytest.fixture
def box(images: Images, loaded: Callable[..., str], tmp_path: Path) -> str:
    """A sandbox that has changed files of an image, one of them at a path that this machine has too."""
    layer = archive(directory("srv"), Member("srv/old", b"old\n"), Member("srv/file", b"one\n"), Member("srv/kept"))
    script = f"echo two >/srv/file; rm /srv/old; mkdir -p {tmp_path}; echo x >{tmp_path}/new"
    images.inside(loaded(layer), "sh", "-c", script, options=("--name", "box", "-q"))
    return "box"


def test_what_was_changed(images: Images, box: str, tmp_path: Path) -> None:
    """The image's own files aren't among the changes, nor this machine's."""
    shown = images.command("diff", box).stdout.splitlines()
    made = [f"A {path}" for path in (*reversed(tmp_path.parents), tmp_path) if str(path) not in ("/", "/tmp")]
    assert [*made, f"A {tmp_path}/new", "C /srv/file", "D /srv/old"] == sorted(shown)


def test_what_an_image_asks_for_is_no_change(images: Images, loaded: Callable[..., str]) -> None:
    """The directories that are made for it, its working directory among them, aren't what the command did."""
    image = loaded(WorkingDir="/work/here/", Volumes={"/data": {}, "/deep/data/": {}})
    images.inside(image, "true", options=("--name", "idle", "-q"))
    assert "" == images.command("diff", "idle").stdout
    images.inside(image, "sh", "-c", "echo x >file; chmod 700 /data", options=("--name", "box", "-q"))
    shown = images.command("diff", "box").stdout.splitlines()
    assert ["A /data", "A /work", "A /work/here", "A /work/here/file"] == shown


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--allow-risky", "--conflicts", "sandbox")])
def test_an_images_changes_are_not_this_machines(
    images: Images, box: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """They aren't applied to files of this machine that happen to have the same paths."""
    done = images.command("apply", *options, box, str(tmp_path / "new"))
    assert (125, "") == (done.returncode, done.stdout)
    said = "sb: cannot apply box: its files are an image's, not this machine's\n\nhint: sb cp box:PATH DST "
    assert done.stderr.startswith(said)
    assert not (tmp_path / "new").exists()


def test_trying_on_an_image(images: Images, loaded: Callable[..., str], tmp_path: Path) -> None:
    """That nothing can be applied is said before the command is run; the rest is as on this machine."""
    words = ("--image", loaded(), "--name", "tried", "--", "sh", "-c", f"echo ran; mkdir -p {tmp_path}/new")
    done = images.command("try", "--apply", *words)
    assert (125, "") == (done.returncode, done.stdout)
    assert "sb: --apply: the files are an image's, not this machine's\n\nhint: --keep or --discard\n" == done.stderr
    done = images.command("try", "--discard", *words)
    assert (0, "ran\n", False) == (done.returncode, done.stdout, (tmp_path / "new").exists())


def test_asked_about_an_image(images: Images, loaded: Callable[..., str]) -> None:
    """Applying isn't offered, and an `a` is no answer."""
    process, master = at_a_terminal(images, "--image", loaded(), "--", "sh", "-c", "echo x >/new")
    assert b"keep the sandbox, or discard it?" in read_until(master, b"[k/d] ")
    os.write(master, b"a\n")
    read_until(master, b"[k/d] ")
    os.write(master, b"d\n")
    read_until(master, b"discarded")
    assert 0 == process.wait(PATIENCE)
    os.close(master)


def test_the_merged_tree_as_an_archive(images: Images, box: str, tmp_path: Path) -> None:
    """All that the sandbox sees, the image's files among it, without marks of what was deleted."""
    place = tmp_path / "box.tar"
    assert 0 == images.command("export", "-o", str(place), box).returncode
    with tarfile.open(place) as found:
        names = set(found.getnames())
        assert {"bin/busybox", "srv/file", "srv/kept"} <= names
        assert not {"srv/old", "srv/.wh.old"} & names
        data = found.extractfile("srv/file")
        assert data is not None
        assert b"two\n" == data.read()


def test_single_files(images: Images, box: str, tmp_path: Path) -> None:
    """They come out of the layer and out of the image, and go in."""
    for name, content in (("file", "two\n"), ("kept", "")):
        assert 0 == images.command("cp", f"{box}:/srv/{name}", str(tmp_path)).returncode
        assert content == (tmp_path / name).read_text()
    (tmp_path / "file").write_text("three\n")
    assert 0 == images.command("cp", str(tmp_path / "file"), f"{box}:/srv/old").returncode
    assert "three\n" == images.command("exec", box, "cat", "/srv/old").stdout


def test_layers_stay_while_they_are_read(images: Images, loaded: Callable[..., str]) -> None:
    """Who exports a sandbox has its image to the end, though the sandbox is removed and images are pruned meanwhile."""
    content = os.urandom(3_000_000)
    images.inside(loaded(archive(Member("large", content))), "true", options=("--name", "box", "-q"))
    process = subprocess.Popen([SB, "export", "box"], env=images.environment, stdout=subprocess.PIPE)
    images.adopt(process)
    assert process.stdout is not None
    beginning = process.stdout.read(512)
    assert 0 == images.command("rm", "box").returncode
    images.image("prune", "-af")
    assert 1 == len(images.ls())
    with tarfile.open(fileobj=io.BytesIO(beginning + process.stdout.read())) as found:
        data = found.extractfile("large")
        assert data is not None
        assert content == data.read()
    assert 0 == process.wait(PATIENCE)
    process.stdout.close()
    images.image("prune", "-af")
    assert {} == images.ls()
