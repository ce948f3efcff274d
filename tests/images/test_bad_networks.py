"""A network and registries as they are on bad days: broken connections, busy servers, wrong bytes, nothing at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.images.archives import Member, archive
from tests.images.registries import free_port

if TYPE_CHECKING:
    from tests.images.conftest import Images
    from tests.images.layouts import Layout
    from tests.images.registries import Unreliable

SIZE = 300_000


@pytest.fixture
def name(layout: Layout, unreliable: Unreliable) -> str:
    """The name of an image there, of one layer that can't be compressed."""
    layout.image([archive(Member("f", os.urandom(SIZE)))], "x")
    return f"{unreliable.host}/x:1"


def test_broken_connections_are_gone_on_with(images: Images, unreliable: Unreliable, name: str) -> None:
    """A layer comes in as many pieces as it takes, and no byte comes twice."""
    unreliable.cut = 50_000
    images.image("pull", name)
    assert SIZE < unreliable.sent < SIZE * 1.1


def test_a_server_that_cannot_go_on_in_the_middle(images: Images, unreliable: Unreliable, name: str) -> None:
    """Then the layer is fetched anew."""
    unreliable.ranges = False
    unreliable.cut, unreliable.cuts = 100_000, 2
    images.image("pull", name)
    assert {name} == images.names()
    assert unreliable.sent > SIZE + 100_000


def test_what_came_is_kept_for_the_next_pull(images: Images, unreliable: Unreliable, name: str) -> None:
    """A pull that was killed in the middle of a layer is taken up where it was."""
    unreliable.cut = 100_000
    done = images.try_image("pull", name, variables={"SB_FAULT": "blob-fetched"})
    assert -9 == done.returncode
    sent = unreliable.sent
    images.image("pull", name)
    assert unreliable.sent - sent == 0


def test_busy_servers_are_asked_again(images: Images, unreliable: Unreliable, name: str) -> None:
    """503 isn't the end."""
    unreliable.busy = 3
    images.image("pull", name)
    assert {name} == images.names()


def test_wrong_bytes(images: Images, unreliable: Unreliable, name: str) -> None:
    """A blob with another digest is refused and not kept, and neither is one that is too long."""
    unreliable.wrong = True
    assert "its digest is another" in images.refused("pull", name)
    unreliable.wrong = False
    unreliable.longer = 10
    assert "is damaged" in images.refused("pull", name)
    unreliable.longer = 0
    assert {} == images.ls()
    images.image("pull", name)


def test_blobs_that_were_damaged_in_the_cache(images: Images, unreliable: Unreliable, name: str) -> None:
    """They are fetched anew, as those are that a crash of the machine has left without their bytes."""
    done = images.try_image("pull", name, variables={"SB_FAULT": "unpacking"})
    assert done.returncode != 0
    blobs = [*(images.place / "cache/sb/blobs/sha256").iterdir()]
    for blob in blobs:
        blob.write_bytes(bytes(blob.stat().st_size))
    images.image("pull", name)
    assert {name} == images.names()
    assert 2 == len(blobs)


def test_wrong_bytes_within(images: Images, layout: Layout, unreliable: Unreliable) -> None:
    """A layer whose content isn't what the configuration says is refused, though its blob is what the manifest says."""
    import gzip

    from rootless_sb.image import manifest

    good = archive(Member("f", b"good"))
    evil = layout.blob(gzip.compress(archive(Member("f", b"evil"))), manifest.OCI_LAYER + "+gzip")
    made = layout.image([good])
    parsed = manifest.parse((layout.path / "blobs" / made.digest.replace(":", "/")).read_bytes())
    assert isinstance(parsed, manifest.Manifest)
    forged = layout.blob(manifest.render(parsed._replace(layers=(evil,))), manifest.OCI_MANIFEST)
    layout.list(forged, "x")
    assert "a layer is damaged" in images.refused("pull", f"{unreliable.host}/x:1")
    assert {} == images.ls()
    assert [] == [each for each in (images.store / "layers").iterdir() if not each.name.endswith(".lock")]


def test_no_network(images: Images) -> None:
    """An unknown host and a closed port are each one line with a hint."""
    assert "is there a network?" in images.refused("pull", "no-such-host.invalid/x")
    assert "Connection refused" in images.refused("pull", f"127.0.0.1:{free_port()}/x")


def test_an_unknown_image(images: Images, unreliable: Unreliable, registry: object) -> None:
    """It is said that the registry doesn't have it."""
    from tests.images.registries import Registry

    assert isinstance(registry, Registry)
    assert "there is no image" in images.refused("pull", f"{registry.host}/no/such:1")
    assert "not an image's name" in images.refused("pull", "No Such")


def test_a_registry_that_is_none(images: Images, layout: Layout, unreliable: Unreliable) -> None:
    """Garbage in place of a manifest is one line."""
    (layout.path / "blobs/sha256" / ("a" * 64)).write_text('{"mediaType": "text/html"}')
    (layout.path / "index.json").write_text(f'{{"manifests": [{{"digest": "sha256:{"a" * 64}"}}]}}')
    assert "cannot understand the manifest" in images.refused("pull", f"{unreliable.host}/x:1")
