"""From a sandbox that is on disk to a view of its layer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuse_overlay.errors import OverlayError
from fuse_overlay.overlay import Overlay
from fuse_overlay.tree import Tree
from rootless_sb import engines, host, mapping, maps, plan
from rootless_sb.errors import Doing, SbError
from rootless_sb.review.layer import DESCRIPTORS, LayerView

if TYPE_CHECKING:
    from fuse_overlay.config import Config
    from rootless_sb.state import State


def config_of(state: State) -> Config:
    """What the sandbox's files are made of, but for its own layer. Raises SbError when that is gone."""
    base = None
    if state.image:
        from rootless_sb.image import basing

        base = basing.again(state.image)
    else:
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
    try:
        return LayerView(config_of(state), f"{directory}/upper")
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
