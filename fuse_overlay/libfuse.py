"""pyfuse3, loaded after the helper that has to come before it (kernel/shortcut.py): import it from here."""

from __future__ import annotations

from fuse_overlay.kernel import shortcut as _shortcut  # noqa: F401 - for its effect

# isort: split
import pyfuse3

__all__ = ["pyfuse3"]
