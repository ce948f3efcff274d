"""From `--image` to the layers that a run stands on; the image is pulled if it isn't here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless_sb import protocol
from rootless_sb.errors import Doing, SbError
from rootless_sb.image import store, surroundings
from rootless_sb.image.running import Base
from rootless_sb.kernel import channel, processes

if TYPE_CHECKING:
    from rootless_sb.image.store import Found
    from rootless_sb.image.surroundings import Surroundings
    from rootless_sb.kernel.channel import Channel

MISSING, ALWAYS, NEVER = "missing", "always", "never"


def base(called: str, when: str, platform: str, *, quiet: bool) -> Base:
    """The layers of an image. `when` to pull it: `--pull`; `platform`: `--platform`, or empty. Raises SbError."""
    where = surroundings.look()
    found = _find(called, platform, where) if when != ALWAYS else None
    if found is None and when == NEVER:
        raise SbError(f"there is no image {called} here", "and it may not be pulled", f"sb image pull {called}")
    if found is None:
        _pull(called, platform, quiet=quiet)
        found = _find(called, platform, where)
    if found is None:
        raise SbError(f"the image {called} is gone", "somebody has just removed it")
    return _base(found, where)


def again(identifier: str) -> Base:
    """The layers of the image with this id, for a sandbox that has changed something on it. Raises SbError."""
    where = surroundings.look()
    for each in where.stores:
        if (image := each.load(identifier)) is not None:
            return _base(store.Found(image, each), where)
    raise SbError(f"the image {identifier[:12]} is gone", "the sandbox needs it", "sb image pull it again")


def _base(found: Found, where: Surroundings) -> Base:
    image, own = found
    trees = tuple(own.tree(layer) for layer in reversed(image.layers))
    try:
        trees = (*trees, where.own.beneath())
    except SbError:  # nothing can be written there: then only images that have the places get what is mounted on them
        if not trees:
            raise
    return Base(image, own.image_directory(image.identifier), trees)


def _find(called: str, platform: str, where: Surroundings) -> Found | None:
    found = store.find(called, where.stores)
    if found is not None and platform:
        from rootless_sb.image import platform as platforms

        if not platforms.matches(platforms.parse(platform), found.image.platform):
            return None
    return found


def _pull(called: str, platform: str, *, quiet: bool) -> None:
    """Have a process of its own pull, so that nothing of what that takes stays in this one. Raises SbError."""
    ours, theirs = channel.pair()
    with Doing("cannot fork"):
        pid = processes.fork(lambda: _pull_here(called, platform, theirs, quiet=quiet), {theirs.fileno()})
    theirs.close()
    answer, _ = ours.receive()
    ours.close()
    status = os.waitpid(pid, 0)[1]
    if answer:
        raise protocol.failure(protocol.decode(answer))
    if status != 0:
        raise SbError(f"cannot get the image {called}", "the process that does it was ended", f"sb image pull {called}")


def _pull_here(called: str, platform: str, starter: Channel, *, quiet: bool) -> int:
    from rootless_sb.cli.image import pull
    from rootless_sb.image import platform as platforms

    processes.die_with_parent()
    try:
        pull.one(called, platforms.asked(platform), quiet=quiet)
    except SbError as error:
        starter.try_send(protocol.failed(error))
        return error.status
    return 0
