"""The overlay server's process: outside every namespace of the sandbox, without privilege, started first of all.

Importing trio and pyfuse3 is what takes longest at the start of a sandbox; the process does it while the namespaces
are set up. It is told what to serve over its channel; without that it goes away quietly.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from rootless_sb import protocol
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import capabilities, channel, descriptors, landlock, processes
from rootless_sb.security.landlock import overlay_server

if TYPE_CHECKING:
    from fuse_overlay.config import Config


class OverlayServer:
    """The server as its parent sees it; `channel` is the end that the watcher uses."""

    __slots__ = ("_pid", "_reaped", "channel", "failure")

    def __init__(self, pid: int, end: channel.Channel) -> None:
        self._pid = pid
        self._reaped = False
        self.channel = end
        self.failure: int | None = None  # the wait status with which it ended, or was stopped, by no doing of ours

    def look(self) -> None:
        """Note in `failure` if it has failed; doesn't wait. One that was stopped answers nobody, so it is ended.

        (It ends with status 0 when its mount is gone, which is no failure.)
        """
        if self._reaped:
            return
        changed, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
        if changed:
            self.failure = status or None
            self._reaped = not os.WIFSTOPPED(status)
            self.stop()

    def look_for(self, seconds: float) -> None:
        """As `look`, giving an end that is on its way so much time to arrive."""
        deadline = time.monotonic() + seconds
        self.look()
        while not self._reaped and time.monotonic() < deadline:
            time.sleep(0.005)
            self.look()

    def wait(self, seconds: float) -> None:
        """Give it so much time to end by itself, as it does when it was unmounted and all is in the layer."""
        deadline = time.monotonic() + seconds
        while not self._reaped and time.monotonic() < deadline:
            ended, status = os.waitpid(self._pid, os.WNOHANG)
            self._reaped = bool(ended)
            if not ended:
                time.sleep(0.005)
            elif status:
                self.failure = status

    def stop(self) -> None:
        """End it at once if it hasn't ended, and wait for that; what isn't in the layer yet is lost."""
        if not self._reaped:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._reaped = True


def start() -> OverlayServer:
    """Fork the server. It dies with the caller. Raises SbError."""
    ours, theirs = channel.pair()
    parent = os.getpid()
    with Doing("cannot fork"):
        pid = processes.fork(lambda: _serve(theirs, parent), keep={theirs.fileno()})
    theirs.close()
    return OverlayServer(pid, ours)


def _serve(orders: channel.Channel, parent: int) -> int:
    os.setsid()  # what is typed at the caller's terminal is not for the server
    processes.die_with_parent()
    if os.getppid() != parent:
        return 1
    processes.set_title("sb-overlay")
    os.chdir("/")
    # stderr stays for what we have to say; libfuse would write there too, of every connection that ends early.
    sys.stderr = open(os.dup(2), "w", buffering=1, errors="backslashreplace")  # noqa: SIM115 - for good
    descriptors.shut((0, 1, 2), descriptors.open_null())
    processes.lift_limits()
    gc.disable()  # nothing to collect among imported modules, and it takes a tenth of the time
    from fuse_overlay import config, server
    from fuse_overlay.errors import OverlayError

    order = orders.receive_long()
    if order is None:
        return 0
    gc.enable()
    try:
        wanted = config.unpack(order[0])
        _confine(wanted)
        fuse, audit = (*order[1], -1)[:2]
        full = protocol.encode(protocol.EXCEEDED, protocol.DISK)
        server.serve(wanted, fuse, audit, lambda: orders.try_send(full), lambda path: _tell_hidden(orders, path))
    except (OverlayError, OSError) as error:
        orders.try_send(protocol.failed(SbError("cannot serve the sandbox's files", str(error))))
        return 1
    return 0


def _tell_hidden(orders: channel.Channel, path: bytes) -> None:
    orders.try_send(protocol.encode(protocol.HIDDEN, os.fsdecode(path)))


def _confine(wanted: Config) -> None:
    """Keep of all powers the one to read what the user may read and to write into the sandbox's own directory, which
    holds upper and work. Raises OSError.
    """
    capabilities.drop_all()
    domain = overlay_server(landlock.version_or_none())
    if domain.restricts() and wanted.upper is not None:
        processes.forbid_new_privileges()
        landlock.restrict(*domain, beneath=os.path.dirname(os.fsdecode(wanted.upper)))
    processes.hide_from_others()
