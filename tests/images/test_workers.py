"""The processes that unpack layers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from rootless_sb.image import manifest
from rootless_sb.image.store import Store
from rootless_sb.image.workers import Workers
from tests.images.archives import Member, archive

if TYPE_CHECKING:
    from pathlib import Path


def test_one_that_was_left_at_work(tmp_path: Path) -> None:
    """Who asks it for another layer gets that one, and no answer about the one before."""
    store = Store(str(tmp_path / "store"))
    layers = []
    for name in "ab":
        data = archive(*(Member(f"{name}{number}", os.urandom(1 << 20)) for number in range(10)))
        (tmp_path / name).write_bytes(data)
        layers.append(manifest.digest_of(data).partition(":")[2])

    async def ask(workers: Workers) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await workers.unpack(0, layers[0], str(tmp_path / "a"), lambda _: None)
        assert scope.cancelled_caught
        told: list[int] = []
        await workers.unpack(0, layers[1], str(tmp_path / "b"), told.append)
        assert store.has_layer(layers[1])
        assert sorted(told) == told

    with Workers(store) as workers:
        trio.run(ask, workers)
