"""Looking for shared libraries without running programs."""

from __future__ import annotations

import ctypes.util
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Threads are in it, too, since glibc 2.34.
_C = "libc.so.6"


@contextmanager
def without_programs() -> Iterator[None]:
    """While this lasts, ctypes.util.find_library finds the C library whatever is looked for.

    Else it runs ldconfig(8) and gcc: a server that is confined can't, and serves the files that they would read.
    """
    look = ctypes.util.find_library
    ctypes.util.find_library = lambda name: _C
    try:
        yield
    finally:
        ctypes.util.find_library = look
