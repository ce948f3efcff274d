"""Asks the user's systemd for a scope: a control group with limits that goes when its last process has ended.

By way of the manager's own socket, as systemctl --user does: no bus has to be there (systemd's src/core/dbus.c,
bus_init_private). What is asked for: org.freedesktop.systemd1(5), StartTransientUnit.
"""

from __future__ import annotations

import errno
import os
import socket

from rootless_sb import dbus
from rootless_sb.dbus import Variant

_PATIENCE = 1.0  # seconds for each answer: it takes a few thousandths of one
_LONGEST = 1 << 20  # bytes of an answer


def make_scope(address: str, uid: int, unit: str, pid: int, limits: tuple[tuple[str, int], ...]) -> None:
    """Have the manager that listens at `address` make the scope `unit`, and put the process `pid` into it.

    `limits`: names and values of properties. Returns when it is done. Raises OSError.
    """
    properties = [
        ("Description", Variant("s", "A sandbox of sb's")),
        ("CollectMode", Variant("s", "inactive-or-failed")),  # nothing of it stays when it was ended for its memory
        ("PIDs", Variant("au", [pid])),
        *((name, Variant("t", value)) for name, value in limits),
    ]
    call = dbus.Call(
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "StartTransientUnit",
        ("s", "s", "a(sv)", "a(sa(sv))"),
        (unit, "fail", properties, []),
        "org.freedesktop.systemd1",
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        connection.connect(address)
        connection.sendall(dbus.authentication(uid) + dbus.encode(call, 1))
        stream = _Stream(connection)
        stream.line()
        _wait(stream, unit.encode())


def _wait(stream: _Stream, unit: bytes) -> None:
    """Wait until the job is done that makes the unit: "JobRemoved" is sent to all who are connected."""
    while True:
        message = stream.message()
        if dbus.kind(message) == dbus.ERROR:
            raise OSError(errno.EPERM, "systemd --user makes no scope")
        if dbus.kind(message) == dbus.SIGNAL and b"JobRemoved\0" in message and unit in message:
            if b"done\0" not in message:
                raise OSError(errno.EIO, "systemd --user couldn't make the scope")
            return


class _Stream:
    """What comes from a socket, a line or a message at a time."""

    __slots__ = ("_data", "_socket")

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._data = b""

    def line(self) -> None:
        """Take a line, which says that we are let in. Raises OSError."""
        while b"\r\n" not in self._data:
            self._more()
        line, _, self._data = self._data.partition(b"\r\n")
        if not line.startswith(b"OK"):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    def message(self) -> bytes:
        """Take a message. Raises OSError."""
        while len(self._data) < dbus.FIXED:
            self._more()
        try:
            length = dbus.length(self._data[: dbus.FIXED])
        except ValueError:
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO)) from None
        if length > _LONGEST:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        while len(self._data) < length:
            self._more()
        message, self._data = self._data[:length], self._data[length:]
        return message

    def _more(self) -> None:
        data = self._socket.recv(1 << 16)
        if not data:
            raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        self._data += data
