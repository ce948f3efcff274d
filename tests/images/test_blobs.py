"""The cache of blobs: what is on its way belongs to one process at a time."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING

from rootless_sb.image import manifest
from rootless_sb.image.blobs import Cache

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CONTENT = b"content"
DIGEST = manifest.digest_of(CONTENT)


def test_a_blob_on_its_way_has_one_owner(tmp_path: Path) -> None:
    """Nobody else gets it meanwhile; who dies in the middle leaves it to the next one."""
    cache = Cache(str(tmp_path))
    first = cache.begin(DIGEST, len(CONTENT))
    assert first is not None
    first.write(CONTENT[:3])
    assert cache.begin(DIGEST, len(CONTENT)) is None
    first.close()
    second = cache.begin(DIGEST, len(CONTENT))
    assert second is not None
    second.resume(len(CONTENT))
    assert 3 == second.size
    second.write(CONTENT[3:])
    second.finish()
    second.close()
    assert CONTENT == cache.read(DIGEST)


def test_a_blob_that_is_finished_just_before_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has opened the file before it got its name doesn't take the whole blob for one on its way."""
    cache = Cache(str(tmp_path))
    first = cache.begin(DIGEST, len(CONTENT))
    assert first is not None
    first.write(CONTENT)
    lock = fcntl.flock

    def lock_after_the_end(descriptor: int, how: int) -> None:
        first.finish()
        first.close()
        lock(descriptor, how)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", lock_after_the_end)
        assert cache.begin(DIGEST, len(CONTENT)) is None
    assert CONTENT == cache.read(DIGEST)


def test_a_blob_that_is_finished_before_it_is_begun(tmp_path: Path) -> None:
    """Who has looked for it before it was there, and locks after that, finds it whole and doesn't fetch it again."""
    cache = Cache(str(tmp_path))
    first = cache.begin(DIGEST, len(CONTENT))
    assert first is not None
    assert not cache.has(DIGEST, len(CONTENT))
    first.write(CONTENT)
    first.finish()
    first.close()
    assert cache.begin(DIGEST, len(CONTENT)) is None
    assert [DIGEST.partition(":")[2]] == [path.name for path in (tmp_path / "sha256").iterdir()]


def test_a_blob_of_another_size_is_fetched_again(tmp_path: Path) -> None:
    """One that was cut off, by a disk that lost its end, isn't the one that was asked for."""
    cache = Cache(str(tmp_path))
    first = cache.begin(DIGEST, len(CONTENT))
    assert first is not None
    first.write(CONTENT)
    first.finish()
    first.close()
    with open(cache.place(DIGEST), "r+b") as file:
        file.truncate(2)
    second = cache.begin(DIGEST, len(CONTENT))
    assert second is not None
    second.close()
