"""Archives: what skopeo and docker write is loaded, what sb saves they read, and root file systems become images."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.images.archives import Member, archive, directory, symlink

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.images.conftest import Images
    from tests.images.layouts import Layout

LAYERS = (
    archive(directory("d", 0o750, uid=3), Member("d/su", b"x", mode=0o4755, uid=1, gid=2)),
    archive(symlink("d/link", "su")._replace(uid=9), Member("d/.wh.su")),
    archive(Member("null", kind=tarfile.CHRTYPE, mode=0o666, device=(1, 3))),
)


def digest_of(path: Path) -> str:
    """The sum of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci"])
def test_what_skopeo_writes(images: Images, layout: Layout, tmp_path: Path, form: str) -> None:
    """Each kind is loaded under the name that it has in the archive, and the image has the id that skopeo says."""
    layout.image(LAYERS, "x", Cmd=["sh"])
    made = tmp_path / "made"
    name = ":" + ("example.org/a/b:1" if form != "oci" else "b:1")
    copy = ("skopeo", "--insecure-policy", "copy", "-q")
    subprocess.run([*copy, f"oci:{layout.path}:x", f"{form}:{made}{name}"], check=True)
    assert images.image("load", "-q", "-i", str(made)).strip() in name
    shown = subprocess.run(["skopeo", "inspect", "--raw", f"{form}:{made}{name}"], capture_output=True, check=True)
    assert [json.loads(shown.stdout)["config"]["digest"].partition(":")[2]] == [*images.ls()]


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_what_is_saved_is_what_was_loaded(images: Images, layout: Layout, tmp_path: Path, form: str) -> None:
    """Archive, store, archive: id, layers, owners and all are the same; skopeo reads it, and so does sb."""
    layout.image(LAYERS, "example.org/a:1", Env=["A=1"])
    images.image("load", "-q", "-i", str(layout.path))
    saved = tmp_path / "saved"
    images.image("save", "--format", form, "-o", str(saved), "example.org/a:1")
    shown = subprocess.run(
        ["skopeo", "inspect", "--config", f"{form}:{saved}:example.org/a:1"], capture_output=True, check=False
    )
    assert b"" == shown.stderr
    assert ["A=1"] == json.loads(shown.stdout)["config"]["Env"]
    before = images.ls()
    images.image("prune", "-af")
    assert "example.org/a:1" == images.image("load", "-q", "-i", str(saved)).strip()
    assert before == images.ls()
    with tarfile.open(saved) as archive_:
        for layer in LAYERS if form == "docker-archive" else ():
            assert any(file.read() == layer for each in archive_ if (file := archive_.extractfile(each)) is not None)


def test_saving_to_what_is_no_regular_file(images: Images, loaded: Callable[..., str], tmp_path: Path) -> None:
    """A device is written to, a directory is refused, and both stay what they are."""
    name = loaded()
    images.image("save", "-o", "/dev/null", name)
    assert "Is a directory" in images.refused("save", "-o", str(tmp_path), name)


def test_pipes_and_compression(images: Images, layout: Layout, tmp_path: Path) -> None:
    """`save | xz | load`: stdout and stdin, compressed."""
    from tests.sandbox.running import SB

    layout.image(LAYERS, "a:1")
    images.image("load", "-q", "-i", str(layout.path))
    script = '"$0" image save a:1 | xz >"$1"; "$0" image prune -af; "$0" image load <"$1"'
    command = ["sh", "-ec", script, str(SB), str(tmp_path / "a.xz")]
    done = subprocess.run(command, env=images.environment, capture_output=True, text=True, check=False)
    assert (0, "a:1") == (done.returncode, done.stdout.splitlines()[-1]), done.stderr


def test_an_imported_root_file_system(images: Images, tmp_path: Path, busybox: bytes) -> None:
    """A tar archive, compressed or not, and a directory, whose files become root's."""
    import gzip

    (tmp_path / "r.tar").write_bytes(busybox)
    (tmp_path / "r.tar.gz").write_bytes(gzip.compress(busybox))
    tree = tmp_path / "tree"
    tree.mkdir()
    subprocess.run(["tar", "-xpf", tmp_path / "r.tar", "-C", tree], check=True)
    for source, name in (("r.tar", "a:1"), ("r.tar.gz", "b:1"), ("tree", "c:1")):
        images.image("import", "-q", str(tmp_path / source), name)
        assert "0 0 700" == images.inside(name, "stat", "-c", "%u %g %a", "/root").strip()


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "neither manifest.json nor index.json"),
        ({"manifest.json": b"{"}, "not JSON"),
        ({"manifest.json": b"{}"}, "not a list"),
        ({"manifest.json": b'[{"Config": "../../etc/passwd", "Layers": []}]'}, "there is no"),
        ({"manifest.json": b'[{"Config": "c", "Layers": ["l"]}]', "c": b'{"rootfs": {}}'}, "other layers"),
        ({"index.json": b'{"schemaVersion": 2, "manifests": [{"size": 1, "digest": "sha256:x"}]}'}, "not a digest"),
        ({"index.json": b"[]"}, "not an object"),
    ],
)
def test_bad_archives(images: Images, tmp_path: Path, files: dict[str, bytes], why: str) -> None:
    """Each is one line, and the store stays empty."""
    (tmp_path / "bad.tar").write_bytes(archive(*(Member(name, data) for name, data in files.items()), Member("x")))
    assert why in images.refused("load", "-i", str(tmp_path / "bad.tar"))
    assert {} == images.ls()


def test_what_is_no_archive(images: Images, tmp_path: Path) -> None:
    """Neither a text nor nothing."""
    (tmp_path / "text").write_text("hello" * 500)
    for command in ("load", "-i"), ("import",):
        assert "tar archive" in images.refused(*command, str(tmp_path / "text"))
        assert "No such file" in images.refused(*command, str(tmp_path / "none"))


def test_a_cache_that_was_cleared(images: Images, loaded: Callable[..., str], tmp_path: Path) -> None:
    """Images go on working, and are saved and pushed: the archives in their layers are made again, to the byte."""
    name = loaded(*LAYERS)
    identifier = next(iter(images.ls()))
    shutil.rmtree(images.place / "cache")
    assert "x\n" == images.inside(name, "echo", "x")
    sums, said = [], "sb: 4 of its layers had to be compressed again: the digest of its manifest is another one\n"
    for form in ("oci-archive", "oci-archive", "docker-archive"):
        saved = tmp_path / "saved"
        done = images.try_image("save", "--format", form, "-o", str(saved), name)
        assert (0, said) == (done.returncode, done.stderr)
        said = ""  # the next time they are the same blobs, compressed by sb as they were
        sums.append(digest_of(saved))
        images.image("prune", "-af")
        images.image("load", "-q", "-i", str(saved))
        assert [identifier] == [*images.ls()]
        shutil.rmtree(images.place / "cache")
    assert sums[0] == sums[1]


def test_a_cleared_cache_and_an_uncompressed_layer(images: Images, tmp_path: Path) -> None:
    """It is the same blob again, so that the manifest stays too."""
    (tmp_path / "r.tar").write_bytes(LAYERS[0])
    images.image("import", "-q", str(tmp_path / "r.tar"), "a:1")
    digest = json.loads(images.image("inspect", "a:1"))["images"][0]["digest"]
    shutil.rmtree(images.place / "cache")
    done = images.try_image("save", "--format", "oci-archive", "-o", str(tmp_path / "saved"), "a:1")
    assert (0, "") == (done.returncode, done.stderr)
    with tarfile.open(tmp_path / "saved") as saved:
        assert f"blobs/{digest.replace(':', '/')}" in saved.getnames()


def test_a_cleared_cache_and_a_layer_that_cannot_be_made_again(images: Images, layout: Layout) -> None:
    """An archive with a name twice has lost the first one's content: it is said what is gone and how to get it back."""
    layout.image([archive(Member("f", b"first"), Member("f", b"then"))], "a:1")
    images.image("load", "-q", "-i", str(layout.path))
    images.image("save", "-o", "/dev/null", "a:1")
    shutil.rmtree(images.place / "cache")
    assert "was cleared" in (said := images.refused("save", "-o", "/dev/null", "a:1"))
    assert "sb image rm it and pull it again" in said
