"""What a sandbox's root is on this machine. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless_sb.errors import SbError

if TYPE_CHECKING:
    from rootless_sb.state import State


def is_whole(state: State) -> bool:
    """Whether its files are a tree of its own, and none but what it changed are this machine's."""
    return bool(state.image) or state.wanted.rootfs is not None


def target(state: State) -> str:
    """The directory of the host that its changes can be brought to. Raises SbError for a sandbox of an image: where its
    paths lead on this machine, there are other files than those that it saw.
    """
    if not state.image:
        return state.wanted.rootfs or "/"
    called = state.name or state.identifier
    hint = f"sb cp {called}:PATH DST copies files out of it, sb export {called} all of them"
    raise SbError(f"cannot apply {called}", "its files are an image's, not this machine's", hint)
