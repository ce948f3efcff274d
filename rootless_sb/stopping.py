"""Ending a running sandbox from outside: by a signal to its command, and a second one that can't be ignored."""

from __future__ import annotations

import os
import signal
import time

from rootless_sb import execution, faults, protocol
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import files

_INTERVAL = 0.02  # seconds between looks at the lock
_ANSWER = 5.0  # seconds for pid 1 to take a signal, which takes it a thousandth
_TEARDOWN = 30.0  # seconds for what a killed command leaves: the last bytes of a layer that is kept, or its removal

_TAKEN, _NOBODY, _SILENT = "taken", "nobody", "silent"  # what came of sending a signal


def send(directory: str, called: str, number: int) -> None:
    """Send the command of the sandbox in `directory` a signal. Raises SbError."""
    own = _open(directory, called)
    try:
        if _send(own, number, _ANSWER) == _SILENT:
            hint = f"if somebody has stopped it: kill -CONT with the first pid of sb ps --tree {called}"
            raise SbError(f"cannot reach {called}", "its first process doesn't answer", hint)
    finally:
        os.close(own)


def stop(directory: str, called: str, grace: float, number: int = signal.SIGTERM) -> None:
    """Ask the command of a sandbox to end by signal `number`, kill it after `grace` seconds, and wait for the end.

    Raises SbError.
    """
    own = _open(directory, called)
    try:
        if grace > 0 and _ends_within(own, grace, number, "stop-asked"):
            return
        if not _ends_within(own, _TEARDOWN, signal.SIGKILL, "stop-forced"):
            raise SbError(f"cannot stop {called}", "it was killed, and is still there", "sb ps")
    finally:
        os.close(own)


def _open(directory: str, called: str) -> int:
    with Doing(f"cannot reach {called}"):
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _send(own: int, number: int, patience: float) -> str:
    """Have pid 1 send the signal, and give it so many seconds. Whether it took it: not in a sandbox that is just
    starting or ending. One that is stopped takes it when it goes on.
    """
    try:
        connection = execution.connect(own)
    except SbError:
        if files.is_locked(own, "lock"):
            return _NOBODY
        raise
    connection.try_send(protocol.encode(protocol.SIGNAL, number))
    answered = connection.wait_for_end(max(patience, _INTERVAL))
    connection.close()
    return _TAKEN if answered else _SILENT


def _ends_within(own: int, seconds: float, number: int, point: str) -> bool:
    """Have the command get a signal; whether nobody holds the sandbox's lock any more within so much time."""
    deadline = time.monotonic() + seconds
    sent = False
    while files.is_locked(own, "lock"):
        if not sent:
            outcome = _send(own, number, deadline - time.monotonic())
            sent = outcome != _NOBODY
            if outcome == _TAKEN:
                faults.point(point)
        if time.monotonic() >= deadline:
            return False
        time.sleep(_INTERVAL)
    return True
