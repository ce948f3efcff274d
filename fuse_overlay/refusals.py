"""Which hidden paths were looked up, told once each."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuse_overlay import policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# More are not told: whoever asks for all of them is no accident, and a number is as good.
_MOST = 100


class Refusals:
    """Tells of each hidden path that somebody has asked for, at the first time."""

    __slots__ = ("_tell", "_told", "_wanted")

    def __init__(self, wanted: Iterable[bytes], tell: Callable[[bytes], None]) -> None:
        """`wanted`: the hidden paths that are told, as they were asked for."""
        self._wanted = frozenset(wanted)
        self._tell = tell
        self._told: set[bytes] = set()

    def note(self, asked: bytes, name: bytes) -> None:
        """`name` was looked up, and what is there is hidden by the path `asked`; of a pattern, the name is told."""
        if asked not in self._wanted:
            return
        path = asked
        if policy.is_pattern(asked) and policy.one_of([os.path.basename(asked)]).fullmatch(name):
            path = os.path.join(os.path.dirname(asked), name)
        if path not in self._told and len(self._told) < _MOST:
            self._told.add(path)
            self._tell(path)
