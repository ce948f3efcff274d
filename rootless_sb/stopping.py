"""Ending a running sandbox from outside: by a signal to its command, and a second one that can't be ignored."""

from __future__ import annotations

import os
import signal
import time

from rootless_sb import execution, faults, protocol
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import files

_INTERVAL = 0.02  # seconds between looks at the lock
_TEARDOWN = 30.0  # seconds for what a killed command leaves: the last bytes of a layer that is kept, or its removal


def send(directory: str, called: str, number: int) -> None:
    """Send the command of the sandbox in `directory` a signal. Raises SbError."""
    own = _open(directory, called)
    try:
        _send(own, number)
    finally:
        os.close(own)


def stop(directory: str, called: str, grace: float) -> None:
    """Ask the command of a sandbox to end, kill it after `grace` seconds, and wait for the sandbox's end.

    Raises SbError.
    """
    own = _open(directory, called)
    try:
        if grace > 0 and _ends_within(own, grace, signal.SIGTERM, "stop-asked"):
            return
        if not _ends_within(own, _TEARDOWN, signal.SIGKILL, "stop-forced"):
            raise SbError(f"cannot stop {called}", "it was killed, and is still there", "sb ps")
    finally:
        os.close(own)


def _open(directory: str, called: str) -> int:
    with Doing(f"cannot reach {called}"):
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _send(own: int, number: int) -> bool:
    """Have pid 1 send the signal; whether it took it: not in a sandbox that is just starting or ending."""
    try:
        connection = execution.connect(own)
    except SbError:
        if files.is_locked(own, "lock"):
            return False
        raise
    connection.try_send(protocol.encode(protocol.SIGNAL, number))
    connection.wait_for_end()
    connection.close()
    return True


def _ends_within(own: int, seconds: float, number: int, point: str) -> bool:
    """Have the command get a signal; whether nobody holds the sandbox's lock any more within so much time."""
    deadline = time.monotonic() + seconds
    sent = False
    while files.is_locked(own, "lock"):
        if not sent and (sent := _send(own, number)):
            faults.point(point)
        if time.monotonic() >= deadline:
            return False
        time.sleep(_INTERVAL)
    return True
