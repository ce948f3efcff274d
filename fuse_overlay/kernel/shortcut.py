"""The compiled helper, if there is one: reads and writes of open files that never come to Python (shortcut.c).

It is built where there was a compiler at the installation. The environment variable FUSE_OVERLAY_SHORTCUT=off does
without; so does an installation that has none. What it does is decided here, by what is allowed of a descriptor.
"""

from __future__ import annotations

import ctypes
import os
from importlib import machinery

VARIABLE = "FUSE_OVERLAY_SHORTCUT"

# As in shortcut.c.
_READ, _WRITE = 1, 2
_DESCRIPTORS = 1 << 20
CACHED_DIRECTORY = 1 << 62


class Shortcut:
    """What may be done to descriptors without asking Python."""

    __slots__ = ("_allowed", "loaded")

    def __init__(self, library: ctypes.CDLL | None) -> None:
        self.loaded = library is not None
        self._allowed: ctypes.Array[ctypes.c_ubyte] | None = None
        if library is not None:
            self._allowed = (ctypes.c_ubyte * _DESCRIPTORS).in_dll(library, "shortcut_allowed")

    def allow(self, fd: int, *, writing: bool) -> None:
        """Let a descriptor be read, and written if `writing`, as it is."""
        if self._allowed is not None and fd < _DESCRIPTORS:
            self._allowed[fd] = _READ | _WRITE if writing else _READ

    def forbid(self, fd: int) -> None:
        """Ask us again of this descriptor, as before it is closed."""
        if self._allowed is not None and fd < _DESCRIPTORS:
            self._allowed[fd] = 0


def _find() -> ctypes.CDLL | None:
    """Load the helper. It must come before pyfuse3 to stand before libfuse in the order of symbols (dlopen(3))."""
    if os.environ.get(VARIABLE) == "off":
        return None
    stem = os.path.join(os.path.dirname(__file__), "_shortcut")
    for suffix in machinery.EXTENSION_SUFFIXES:
        try:
            return ctypes.CDLL(stem + suffix, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
    return None


SHORTCUT = Shortcut(_find())
