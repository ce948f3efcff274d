"""A disk that gets full in the middle of a pull: one line, a hint, and the store as before."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.images.archives import Member, archive
from tests.sandbox.running import SB

if TYPE_CHECKING:
    from tests.images.conftest import Images
    from tests.images.layouts import Layout
    from tests.images.registries import Registry


@pytest.mark.parametrize("full", ["data", "cache"])
def test_a_full_disk(images: Images, layout: Layout, registry: Registry, full: str) -> None:
    """Be it where layers are unpacked or where blobs come to: an image that was there stays, and no room is lost."""
    layout.image([archive(Member("f", b"small"))], "small")
    layout.image([archive(*(Member(f"f{number}", os.urandom(50_000)) for number in range(20)))], "large")
    small = registry.add(layout.path, "small", "plain/full:small")
    large = registry.add(layout.path, "large", "plain/full:large")
    place = images.place / full
    place.mkdir()
    script = f"""
        mount -t tmpfs -o size=600k none {place} || exit
        '{SB}' image pull -q {small}; df --output=used {place} | tail -1
        '{SB}' image pull -q {large}; echo $?
        '{SB}' image prune -f 2>/dev/null; df --output=used {place} | tail -1
        '{SB}' image ls --json
    """
    command = ["unshare", "-Urm", "sh", "-c", script]
    done = subprocess.run(command, env=images.environment, capture_output=True, text=True, check=False)
    identifier, before, status, after, listed = done.stdout.split("\n", 4)
    assert [identifier] == [each["id"] for each in json.loads(listed)["images"]]
    assert "125" == status
    said, _, hint = done.stderr.partition("\n\nhint: ")
    assert said.endswith(": No space left on device")
    assert "\n" not in said
    assert hint.startswith("make room: sb image prune")
    assert int(after) <= int(before) + 8  # the lock files of the large image's blobs


def test_what_else_is_unpacked_then_is_given_up(images: Images, layout: Layout) -> None:
    """A layer that is refused ends the others at once, and nothing of them is left."""
    large = archive(*(Member(f"f{number}", os.urandom(100_000)) for number in range(100)))
    layout.image([large, archive(Member("../x"))], "a:1")
    assert "has .. in it" in images.refused("load", "-i", str(layout.path))
    assert [] == [path for path in (images.store / "layers").iterdir() if not path.name.endswith(".lock")]
