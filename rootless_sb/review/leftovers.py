"""What of the host's an apply leaves where it is, or under another name, rather than lose it; in words. Pure."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.ui.changes import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

BEFORE = "before"

_NAMED = 10  # how many are named at most


class Left(NamedTuple):
    """BEFORE: what was to go from `path` is `aside` still, since the host may have changed it."""

    kind: str
    path: bytes
    aside: bytes


def lines(left: Sequence[Left], root: str) -> list[str]:
    """A line for each, with what to type. `root`: the directory of the host that is the sandbox's root."""
    said = [_line(each, root) for each in left[:_NAMED]]
    if len(left) > _NAMED:
        said.append(f"and {len(left) - _NAMED} more; find DIRECTORY -name '.sb-apply-*' lists what is kept")
    return said


def _line(left: Left, root: str) -> str:
    path, aside = (_word(root, each) for each in left[1:])
    return f"{path}: the host may have changed what was to go: it is kept (rm -r {aside} removes it)"


def _word(root: str, path: bytes) -> str:
    """A path as a word of a command line, in the host's tree."""
    return shlex.quote(os.path.join(root, shown(path).lstrip("/")))
