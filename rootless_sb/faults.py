"""Named points at which a test may have a process die, as kill -9 or a crash would have it: SB_FAULT=NAME."""

from __future__ import annotations

import os
import signal


def point(name: str) -> None:
    """Die here if SB_FAULT names this point."""
    if os.environ.get("SB_FAULT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
