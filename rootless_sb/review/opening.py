"""From a sandbox that is on disk to a view of its layer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuse_overlay.errors import OverlayError
from fuse_overlay.overlay import Overlay
from fuse_overlay.tree import Tree
from rootless_sb import engines, host, mapping, maps, plan
from rootless_sb.errors import Doing, SbError
from rootless_sb.review import mountpoints
from rootless_sb.review.layer import DESCRIPTORS, LayerView

if TYPE_CHECKING:
    from fuse_overlay.config import Config
    from rootless_sb.image.running import Base
    from rootless_sb.state import State


def config_of(state: State) -> Config:
    """What the sandbox's files are made of, but for its own layer. Raises SbError when that is gone."""
    return _config(state, _base(state))


def _base(state: State) -> Base | None:
    """The image that the sandbox runs on, if it does on one. Raises SbError when that is gone."""
    if not state.image:
        return None
    from rootless_sb.image import basing, store

    base = basing.again(state.image)
    store.hold(base.directory)  # for as long as this process lives, though the sandbox is removed meanwhile
    return base


def _config(state: State, base: Base | None) -> Config:
    if base is None:
        root = state.wanted.rootfs or "/"
        with Doing(f"cannot open {root}"):
            os.stat(root)
    machine = host.probe()
    wanted = state.wanted._replace(read_only_paths=(), disk="", audit="")  # what holds for those inside only
    id_maps = maps.id_maps(wanted.userns, machine)
    if wanted.engine == engines.KERNEL:
        mapping.enter(id_maps)
    return plan.overlay(wanted, machine, base, id_maps)


def view(state: State, directory: str) -> LayerView:
    """A view of the layer of the sandbox in `directory`. Raises SbError: its lower directory is gone, say."""
    base = _base(state)
    made = mountpoints.places(state, base.image if base is not None else None)
    try:
        return LayerView(_config(state, base), f"{directory}/upper", made)
    except OverlayError as error:
        raise SbError(f"cannot look at the sandbox {state.name or state.identifier}", str(error)) from None


def tree(state: State, directory: str) -> Tree:
    """All that the sandbox in `directory` sees, to be read. Raises SbError."""
    try:
        return Tree(config_of(state)._replace(upper=os.fsencode(f"{directory}/upper")), DESCRIPTORS)
    except OverlayError as error:
        raise SbError(f"cannot look at the sandbox {state.name or state.identifier}", str(error)) from None


def overlay(state: State, directory: str) -> Overlay:
    """All that the sandbox in `directory` sees, to be changed by who holds its lock. Raises SbError."""
    upper, work = (os.fsencode(f"{directory}/{part}") for part in ("upper", "work"))
    try:
        return Overlay(config_of(state)._replace(upper=upper, work=work))
    except OverlayError as error:
        raise SbError(f"cannot change the sandbox {state.name or state.identifier}", str(error)) from None
