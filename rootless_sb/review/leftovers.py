"""What of the host's an apply leaves where it is, or under another name, rather than lose it; in words. Pure."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.ui.changes import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

STAYS, PUT_ASIDE, BEFORE = "stays", "put aside", "before"

_NAMED = 10  # how many are named at most


class Left(NamedTuple):
    """STAYS: the host has changed what was put at `path`, or made it anew, which stays there; what was there before, if
    anything, is `aside`. PUT_ASIDE: what was put at `path` is `aside` now, since the host may have changed it. BEFORE:
    what was to go is `aside` still, since the host may have changed it.
    """

    kind: str
    path: bytes
    aside: bytes = b""


def lines(left: Sequence[Left], root: str) -> list[str]:
    """A line for each, with what to type. `root`: the directory of the host that is the sandbox's root."""
    said = [_line(each, root) for each in left[:_NAMED]]
    if len(left) > _NAMED:
        said.append(f"and {len(left) - _NAMED} more; find DIRECTORY -name '.sb-apply-*' lists what is kept")
    return said


def _line(left: Left, root: str) -> str:
    path, aside = (_word(root, each) if each else "" for each in left[1:])
    if left.kind == BEFORE:
        return f"{path}: the host may have changed what was to go: it is kept (rm -r {aside} removes it)"
    if left.kind == PUT_ASIDE:
        return f"{path}: the host may have changed what was applied: it is kept (rm -r {aside} removes it)"
    stays = f"{path}: the host has changed it since it was applied: it stays"
    return f"{stays} (what was there before is {aside}: mv or rm -r it)" if aside else stays


def _word(root: str, path: bytes) -> str:
    """A path as a word of a command line, in the host's tree."""
    return shlex.quote(os.path.join(root, shown(path).lstrip("/")))
