"""How the overlay reports failures: to people, and to the kernel."""

from __future__ import annotations

import os


class OverlayError(Exception):
    """The overlay can't be set up or served. The message is one line, for people."""


def failure(number: int) -> OSError:
    """An OSError of this errno, to raise: the adapter answers the kernel's request with it."""
    return OSError(number, os.strerror(number))
