"""Points at which a test has a process die, or stop, by itself: the variable SB_FAULT names one.

    SB_FAULT=unmounted          killed, as by SIGKILL      SB_FAULT=unmounted:stop     stopped, as by SIGSTOP
"""

from __future__ import annotations

import os
import signal


def point(name: str) -> None:
    """Be killed or stopped here if SB_FAULT says so."""
    wanted = os.environ.get("SB_FAULT")
    if wanted == name:
        os.kill(os.getpid(), signal.SIGKILL)
    elif wanted == f"{name}:stop":
        os.kill(os.getpid(), signal.SIGSTOP)
