"""The text of changed files, to be compared line by line."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from rootless_sb.ui.changes import Text

if TYPE_CHECKING:
    from fuse_overlay.tree import Tree
    from rootless_sb.review.changes import Change, Item
    from rootless_sb.review.layer import LayerView

_LONGEST = 1 << 19  # bytes: comparing takes up to the square of it


def text_of(view: LayerView, change: Change) -> Text:
    """The lines of a file before and after. Raises OSError."""
    return Text(
        _lines(view, view.lower, change.path, change.before), _lines(view, view.upper, change.path, change.after)
    )


def _lines(view: LayerView, tree: Tree, path: bytes, item: Item | None) -> list[bytes] | None:
    if item is None:
        return []
    if item.kind == stat.S_IFLNK:
        return [item.target]
    if item.kind != stat.S_IFREG or item.size > _LONGEST:
        return None
    try:
        descriptor = view.open_at(tree, path)
    except PermissionError:
        return None
    with open(descriptor, "rb") as file:
        data = file.read(_LONGEST + 1)
    if b"\0" in data or len(data) > _LONGEST:
        return None
    *whole, rest = data.split(b"\n")
    lines = [each + b"\n" for each in whole]
    return [*lines, rest] if rest else lines
