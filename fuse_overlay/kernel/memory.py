"""Giving memory that is free back to the kernel."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """Give back what neither Python nor the C library has a use for.

    Python keeps up to 2000 freed tuples of each size for the next ones, and an arena of a mebibyte as long as one
    object is in it (Objects/tupleobject.c, Objects/obmalloc.c): a full collection empties these lists. The C library
    keeps what was freed in the middle of its heap (malloc_trim(3); not every library has it).
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
