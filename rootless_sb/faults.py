"""Points at which a test has a process die, or stop, by itself: the variable SB_FAULT names one.

    SB_FAULT=unmounted          killed, as by SIGKILL      SB_FAULT=unmounted:stop     stopped, as by SIGSTOP
    SB_FAULT=file-staged:3      killed when it comes here for the third time
"""

from __future__ import annotations

import os
import signal

# Looked up once: an apply comes by at some points for each file.
_WANTED, _, _HOW = os.environ.get("SB_FAULT", "").partition(":")
_passed: dict[str, int] = {}


def point(name: str) -> None:
    """Be killed or stopped here if SB_FAULT says so."""
    if name != _WANTED:
        return
    _passed[name] = _passed.get(name, 0) + 1
    if _HOW == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif _passed[name] == int(_HOW or 1):
        os.kill(os.getpid(), signal.SIGKILL)
