"""`sb attach`'s side: types into the pty of a sandbox in the background, and shows what its log gets."""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

from rootless_sb import protocol
from rootless_sb.background import LOG
from rootless_sb.detaching import DetachKeys
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import channel, files, terminals
from rootless_sb.kernel.signals import SignalPipe

if TYPE_CHECKING:
    from typing import Any

_CHUNK = 1 << 16  # bytes
_INTERVAL = 20  # milliseconds between looks at the log


def attach(own: int) -> bool:
    """Stay with the sandbox in the directory `own` until it ends or the keys are typed; whether it was the keys.

    Raises SbError: it doesn't run in the background.
    """
    try:
        connection = channel.connect(own, "attach")
    except (ConnectionRefusedError, FileNotFoundError):
        raise SbError("cannot attach", "the sandbox doesn't run in the background", "sb exec NAME COMMAND") from None
    message, passed = connection.receive()
    if not message or protocol.decode(message).kind != protocol.TERMINAL:
        raise SbError("cannot attach", "the sandbox is just ending")
    attached = Attached(own, passed[0] if passed else None)
    try:
        return attached.loop()
    finally:
        attached.restore()


class Attached:
    """The caller's terminal while it is connected to a pty of the sandbox."""

    __slots__ = ("_keys", "_log", "_master", "_modes", "_own", "_signals", "_typing")

    def __init__(self, own: int, master: int | None) -> None:
        self._own = own
        self._master = master
        self._keys = DetachKeys()
        self._signals = SignalPipe((signal.SIGWINCH,))
        self._typing = master is not None
        self._modes: list[Any] | None = None
        with Doing("cannot read the sandbox's log"):
            self._log = os.open(LOG, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=own)
            os.lseek(self._log, 0, os.SEEK_END)
        if master is not None and os.isatty(0):
            terminals.copy_window_size(0, master)
            self._modes = terminals.modes(0)
            terminals.set_modes(0, terminals.raw(self._modes))

    def restore(self) -> None:
        """Give the caller's terminal its modes back."""
        if self._modes is not None:
            terminals.set_modes(0, self._modes)
            self._modes = None

    def loop(self) -> bool:
        """Carry on until the sandbox has ended or the keys were typed; whether they were."""
        while not self._keys.found:
            alive = files.is_locked(self._own, "lock")  # before the look at the log: nothing of it is missed
            self._show()
            if not alive:
                return False
            poll = select.poll()
            poll.register(self._signals.reader, select.POLLIN)
            if self._typing:
                poll.register(0, select.POLLIN)
            for descriptor, _ in poll.poll(_INTERVAL):
                if descriptor == 0:
                    self._type()
                else:
                    self._resize()
        return True

    def _type(self) -> None:
        typed = os.read(0, _CHUNK)
        self._typing = bool(typed)
        data = self._keys.passed(typed)
        while data and self._master is not None:
            try:
                data = data[os.write(self._master, data) :]
            except BlockingIOError:  # the command doesn't read: it is set not to wait by the supervisor
                select.select([], [self._master], [])

    def _resize(self) -> None:
        self._signals.take()
        if self._modes is not None and self._master is not None:
            terminals.copy_window_size(0, self._master)

    def _show(self) -> None:
        """Write what is new in the log, and go on with the next one if there is one."""
        self._copy()
        newest = self._open_log()
        if os.path.sameopenfile(newest, self._log):
            os.close(newest)
            return
        self._copy()
        os.close(self._log)
        self._log = newest

    def _copy(self) -> None:
        while chunk := os.read(self._log, _CHUNK):
            while chunk:
                chunk = chunk[os.write(1, chunk) :]

    def _open_log(self) -> int:
        try:
            return os.open(LOG, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._own)
        except FileNotFoundError:  # just being rotated, or removed with the sandbox
            return os.dup(self._log)
