"""What sb makes in a sandbox's root before the command runs: that is none of the command's changes. Pure."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from rootless_sb.image import running
from rootless_sb.review.changes import ADDED, directories_above
from rootless_sb.volumes import parse_scratch, parse_volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rootless_sb.image.record import Image
    from rootless_sb.review.changes import Change
    from rootless_sb.state import State

# `root.root_steps` mounts these in every root.
_ALWAYS = ("/proc", "/dev", "/sys")
# As `builder` makes them; the watcher's umask takes nothing of that away.
_MODES = {stat.S_IFDIR: 0o755, stat.S_IFREG: 0o644}


def places(state: State, image: Image | None) -> tuple[str, ...]:
    """Where something is mounted in a sandbox, and the directories that its image asks for, as they were named."""
    volumes = (parse_volume(text, "/").target for text in state.wanted.volumes)
    scratches = (parse_scratch(text).target for text in state.wanted.scratches)
    asked = running.directories(image, state.directory) if image is not None else ()
    return (*_ALWAYS, *volumes, *scratches, *asked)


def without_made(changes: Sequence[Change], made: Iterable[bytes], own_uid: int) -> list[Change]:
    """The changes, in the order of their paths, but for those that sb has made itself at the paths `made` and above
    them. One that has changed since, or has a change in it, stays.

    `own_uid`: what the user's own uid is inside, whose they are.
    """
    ours = {path for place in made for path in (place, *directories_above(place))}
    needed: set[bytes] = set()
    kept = []
    for change in reversed(changes):  # what is in a directory comes before it
        if change.path in ours and change.path not in needed and _is_as_made(change, own_uid):
            continue
        needed.add(change.path.rpartition(b"/")[0])
        kept.append(change)
    return kept[::-1]


def _is_as_made(change: Change, own_uid: int) -> bool:
    item = change.item
    # In a setgid directory, a directory has that bit too (inode(7)).
    is_ours = (item.owner.uid, item.owner.mode & 0o777) == (own_uid, _MODES.get(item.kind))
    return change.kind == ADDED and is_ours and not item.size
