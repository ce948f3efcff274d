"""A sandbox in the background: its supervisor is a process of its own, and what the command writes goes to a log.

    DIRECTORY/log   what the command has written, as it wrote it      DIRECTORY/log.1   what was there before
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TypeVar

from rootless_sb import overlay_server, protocol, sandboxes, stdio, supervisor
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import channel, descriptors, processes
from rootless_sb.ui import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_sb.plan import Plan
    from rootless_sb.status_stream import StatusStream

T = TypeVar("T")

LOG = "log"
OLD_LOG = "log.1"
_LARGEST = 10_000_000  # bytes


def run(plan: Plan, status: StatusStream) -> int:
    """Start a plan in the background and print the sandbox's id once its command runs. Raises SbError."""
    messages.warn_all(plan.warnings)  # what is to run in the background can say nothing
    ours, theirs = channel.pair()
    keep = {theirs.fileno(), *stdio.preserved(plan.attachments)}
    if status.descriptor is not None:
        keep.add(status.descriptor)
    with Doing("cannot fork"):
        processes.fork(lambda: _supervise(plan, theirs, status), keep)
    theirs.close()
    data, _ = ours.receive()
    if not data:
        raise SbError("the sandbox was ended before its command ran")
    message = protocol.decode(data)
    if message.kind == protocol.FAILED:
        raise protocol.failure(message)
    sys.stdout.write(f"{plan.identifier}\n")
    return 0


def _supervise(plan: Plan, starter: channel.Channel, status: StatusStream) -> int:
    """The life of the supervisor in the background; its exit status matters to nobody."""
    os.setsid()
    descriptors.shut((0, 1, 2), descriptors.open_null())
    processes.set_title("sb")
    background = Background(starter)
    server = overlay_server.start()
    try:
        with status:
            return supervisor.run(plan, server, status, background)
    except SbError as error:
        background.failed(error)
        return error.status
    finally:
        server.stop()


class Background:
    """Whom to tell of the start, and the log, which takes the place of our stdout and stderr."""

    __slots__ = ("_own", "_starter", "visitors")

    def __init__(self, starter: channel.Channel) -> None:
        self._starter: channel.Channel | None = starter
        self._own: int | None = None
        self.visitors: channel.Listener | None = None  # where `sb attach` connects

    def open_log(self, own: int) -> None:
        """Have our stdout and stderr be the log in the directory `own`. Raises SbError."""
        self._own = own
        with Doing("cannot write the sandbox's log"):
            _unless_removed(own, lambda: _write_to_log(own))

    def listen(self, own: int) -> None:
        """Let `sb attach` connect at `attach` in the directory `own`. Raises SbError."""
        with Doing("cannot listen for sb attach"):
            self.visitors = _unless_removed(own, lambda: channel.listen(own, "attach"))

    def welcome(self, master: int | None) -> None:
        """Hand the master of the command's pty, if it has one, to who has connected; the output is in the log."""
        visitor = self.visitors.accept() if self.visitors is not None else None
        if visitor is not None:
            visitor.try_send(protocol.encode(protocol.TERMINAL), () if master is None else (master,))
            visitor.close()

    def rotate(self) -> None:
        """Begin a new log if this one has become large. Raises SbError."""
        own = self._own
        if own is None or os.fstat(1).st_size < _LARGEST:
            return
        with Doing("cannot begin a new log"):
            _unless_removed(own, lambda: os.rename(LOG, OLD_LOG, src_dir_fd=own, dst_dir_fd=own))
        self.open_log(own)

    def started(self, pid: int) -> None:
        """The command runs, with this pid in the sandbox."""
        self._tell(protocol.encode(protocol.STARTED, pid))

    def failed(self, error: SbError) -> None:
        """Say what went wrong: to who waits for the start, or in the log if that is over."""
        if self._starter is None:
            messages.report(error)
        self._tell(protocol.failed(error))

    def _tell(self, message: bytes) -> None:
        if self._starter is not None:
            self._starter.try_send(message)
            self._starter.close()
            self._starter = None


def _unless_removed(own: int, act: Callable[[], T]) -> T | None:
    """Do something in a sandbox's directory; what it returns, or None if that is being removed and nothing was done: a
    command may be short. Raises OSError.
    """
    try:
        return sandboxes.while_there(own, lambda _: act())
    except FileNotFoundError:
        return None


def _write_to_log(own: int) -> None:
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600, dir_fd=own)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
