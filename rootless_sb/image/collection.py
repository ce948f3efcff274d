"""Removing from a store what nobody needs: never while somebody adds to it, and nothing that a sandbox runs on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb import faults
from rootless_sb.errors import Doing
from rootless_sb.image.store import listed
from rootless_sb.kernel import files, trees

if TYPE_CHECKING:
    from typing import Self

    from rootless_sb.image.store import Store

_HINT = "set SB_DATA_HOME to a directory on another disk"


class Collected(NamedTuple):
    """What was removed: the ids of images, and the bytes that their layers and what else was left over occupied."""

    images: list[str]
    freed: int


class Held:
    """The store's lock, shared or alone, for a `with`."""

    __slots__ = ("_alone", "_lock", "store")

    def __init__(self, store: Store, *, alone: bool) -> None:
        self.store = store
        self._alone = alone
        self._lock: int | None = None

    def try_to_enter(self) -> bool:
        """Take the lock without waiting; whether that went. Raises SbError."""
        self._take(wait=False)
        return self._lock is not None

    def __enter__(self) -> Self:
        if self._lock is None:
            self._take(wait=True)
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            os.close(self._lock)

    def _take(self, *, wait: bool) -> None:
        path = self.store.path
        with Doing(f"cannot lock {path}", _HINT):
            os.makedirs(path, 0o700, exist_ok=True)
            directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._lock = files.lock(directory, "lock", wait=wait, shared=not self._alone)
            finally:
                os.close(directory)


def adding(store: Store) -> Held:
    """While this is used in a `with`, nothing of the store is removed. Raises SbError on the way in."""
    return Held(store, alone=False)


def removing(store: Store) -> Held | None:
    """While this is used in a `with`, nobody adds anything. None while somebody does. Raises SbError."""
    held = Held(store, alone=True)
    return held if held.try_to_enter() else None


def collect(held: Held, keep: set[str], drop: set[str] | None = None) -> Collected:
    """Remove the images that have no name and aren't in `keep`, only those in `drop` if that is given, and then all
    layers that no image has. One that a sandbox runs on stays. Raises SbError.
    """
    store = held.store
    removed = []
    names = store.names()
    with Doing(f"cannot remove images from {store.path}"):
        images = store.open("images")
        for identifier in listed(f"{store.path}/images"):
            wanted = identifier not in keep and identifier not in names and (drop is None or identifier in drop)
            if wanted and _remove_image(images, identifier):
                removed.append(identifier)
        freed = _sweep(images)
        os.close(images)
        needed = {layer for image in store.images() for layer in image.layers}
        layers = store.open("layers")
        for layer in listed(f"{store.path}/layers"):
            if layer not in needed and layer != "empty":
                os.rename(layer, f".{layer}", src_dir_fd=layers, dst_dir_fd=layers)
        faults.point("layers-hidden")
        freed += _sweep(layers)
        os.close(layers)
    return Collected(removed, freed)


def _remove_image(images: int, identifier: str) -> bool:
    """Remove an image unless a sandbox runs on it; whether it was removed. Raises OSError."""
    own = os.open(identifier, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=images)
    lock = None
    try:
        lock = files.lock(own, "lock", wait=False)
        if lock is None:
            return False
        os.rename(identifier, f".{identifier}", src_dir_fd=images, dst_dir_fd=images)
        os.unlink("lock", dir_fd=own)  # so that whoever opened it before sees that it is of no use
    finally:
        os.close(own)
        if lock is not None:
            os.close(lock)
    return True


def _sweep(directory: int) -> int:
    """Remove what is hidden in a part of the store, which nobody adds to meanwhile; the bytes freed. Raises OSError."""
    freed = 0
    for name in os.listdir(directory):
        if name.endswith(".lock"):
            os.unlink(name, dir_fd=directory)
        elif name.startswith("."):
            freed += trees.remove_tree(directory, name).bytes
    return freed
