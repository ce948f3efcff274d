"""The compiled helper, if there is one: reads and writes of open files that never come to Python (shortcut.c).

It is built where there was a compiler at the installation. The environment variable FUSE_OVERLAY_SHORTCUT=off does
without; so does an installation that has none. What it does is decided here, by what is allowed of a descriptor.
"""

from __future__ import annotations

import ctypes
import os
from importlib import machinery
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE = "FUSE_OVERLAY_SHORTCUT"

# As in shortcut.c, which says what each is.
_READ, _WRITE = 1, 2
_DESCRIPTORS = 1 << 20
CACHED_DIRECTORY = 1 << 62
_NOTES = 1 << 14
_BARE = 1 << 17
_OPCODES = 64
_PATIENCE = 5


class Shortcut:
    """What may be done to descriptors without asking Python, and what was done that Python has to know of."""

    __slots__ = (
        "_allowed", "_bare", "_counts", "_forgotten", "_idle", "_noted", "_notes", "_patience", "_released",
        "_released_directory", "loaded",
    )  # fmt: skip

    def __init__(self, library: ctypes.CDLL | None) -> None:
        self.loaded = library is not None
        self._allowed: ctypes.Array[ctypes.c_ubyte] | None = None
        if library is not None:
            self._allowed = (ctypes.c_ubyte * _DESCRIPTORS).in_dll(library, "shortcut_allowed")
            self._bare = (ctypes.c_uint64 * _BARE).in_dll(library, "shortcut_bare")
            self._counts = (ctypes.c_uint * _OPCODES).in_dll(library, "shortcut_counts")
            self._notes = (ctypes.c_uint64 * (2 * _NOTES)).in_dll(library, "shortcut_notes")
            self._noted = ctypes.c_uint.in_dll(library, "shortcut_noted")
            self._patience = ctypes.c_int.in_dll(library, "shortcut_patience")
            self._idle = ctypes.c_int.in_dll(library, "shortcut_idle")

    def no_attributes(self, ino: int) -> None:
        """Say of an inode that it has no extended attributes."""
        if self.loaded:
            self._bare[ino % _BARE] = ino

    def ask_for_attributes(self, ino: int) -> None:
        """Take that back."""
        if self.loaded and self._bare[ino % _BARE] == ino:
            self._bare[ino % _BARE] = 0

    def inform(
        self,
        released: Callable[[int], None],
        released_directory: Callable[[int], None],
        forgotten: Callable[[int, int], None],
    ) -> None:
        """Whom `settle` is to tell of released handles, and of inodes that so many look-ups were taken back of."""
        self._released, self._released_directory, self._forgotten = released, released_directory, forgotten

    def counts(self) -> list[int]:
        """How many requests came so far, by opcode (linux/fuse.h); nothing without the helper."""
        return self._counts[:] if self.loaded else []

    def settle(self) -> bool:
        """Tell of what was done. Returns whether to wait for requests: not if the helper itself does."""
        if not self.loaded:
            return True
        count = self._noted.value
        if count:
            notes = self._notes[: 2 * count]
            self._noted.value = 0
            for number, lookups in zip(notes[::2], notes[1::2], strict=True):
                if lookups:
                    self._forgotten(number, lookups)
                    continue
                if number & CACHED_DIRECTORY:
                    self._released_directory(number)
                    continue
                try:
                    self._released(number)
                except OSError:
                    pass  # close(2) has failed, which nobody waits for
        return bool(self._idle.value)

    def be_patient(self, patient: bool) -> None:
        """Let the helper wait for the next request, or have it return at once: while it waits, no thread goes on."""
        if self.loaded:
            self._patience.value = _PATIENCE if patient else 0

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
