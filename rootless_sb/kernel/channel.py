"""A message channel between two of sb's processes: SOCK_SEQPACKET, descriptors passed along (unix(7), SCM_RIGHTS)."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGEST = 1 << 17  # bytes of one message; below the default send buffer of a unix socket (net.core.wmem_default)
_SENT_AT_MOST = 253  # descriptors of one message, SCM_MAX_FD in unix(7)
_CREDENTIALS = struct.Struct("3i")  # struct ucred


class Channel:
    """One end. A message is bytes, and never split or merged."""

    __slots__ = ("_socket",)

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def fileno(self) -> int:
        """The descriptor, to poll or to keep over a fork."""
        return self._socket.fileno()

    def send(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send one message and duplicates of `descriptors`.

        Raises OSError; ConnectionError when the other end is gone: EPIPE, or once ECONNRESET if it left some unread.
        """
        if len(message) > _LARGEST:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        socket.send_fds(self._socket, [message], list(descriptors), socket.MSG_NOSIGNAL)

    def try_send(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send one message and duplicates of `descriptors`, if there still is somebody to read it."""
        try:
            self.send(message, descriptors)
        except ConnectionError:
            return

    def send_long(self, data: bytes, *descriptors: int) -> None:
        """Send data of any length, which `receive_long` takes, and duplicates of `descriptors`. Raises OSError."""
        memory = os.memfd_create("sb")
        try:
            written = 0
            while written < len(data):
                written += os.write(memory, data[written : written + _LARGEST])
            self.send(b"long", (memory, *descriptors))
        finally:
            os.close(memory)

    def receive_from(self) -> tuple[bytes, int, list[int]]:
        """Wait for one message; its sender's pid, 0 if the kernel wasn't to tell (`Listener.identify`), and the
        descriptors with it. Empty when the other end is gone. Raises OSError.
        """
        room = socket.CMSG_SPACE(_SENT_AT_MOST * 4) + socket.CMSG_SPACE(_CREDENTIALS.size)
        flags = socket.MSG_CMSG_CLOEXEC
        message, attached, _, _ = self._socket.recvmsg(_LARGEST, room, flags)
        sender, descriptors = 0, array.array("i")
        for level, kind, data in attached:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
            elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                sender = _CREDENTIALS.unpack(data)[0]
        return message, sender, list(descriptors)

    def peer(self) -> int:
        """The pid of the process that made the connection (SO_PEERCRED)."""
        pid: int = _credentials(self._socket)[0]
        return pid

    def move_above(self, number: int) -> None:
        """Have the descriptor be one above `number`. Raises OSError."""
        moved = socket.socket(fileno=fcntl.fcntl(self._socket, fcntl.F_DUPFD_CLOEXEC, number + 1))
        self._socket.close()
        self._socket = moved

    def receive_long(self) -> tuple[bytes, list[int]] | None:
        """Wait for what `send_long` sends; None when the other end is gone. Raises OSError."""
        message, descriptors = self.receive()
        if not message:
            return None
        memory, *passed = descriptors
        return read_all(memory), passed

    def receive(self) -> tuple[bytes, list[int]]:
        """Wait for one message and the descriptors with it (close-on-exec). Empty when the other end is gone.

        Raises OSError.
        """
        try:
            received = socket.recv_fds(self._socket, _LARGEST, _SENT_AT_MOST)
        except ConnectionResetError:
            # The other end was closed with messages unread. The kernel says so once, and before it hands over what that
            # one had sent (unix_release_sock in net/unix/af_unix.c, sock_error in __skb_try_recv_datagram).
            received = socket.recv_fds(self._socket, _LARGEST, _SENT_AT_MOST)
        message, descriptors, flags, _ = received
        for descriptor in descriptors:  # recv_fds of Python 3.11 takes flags (MSG_CMSG_CLOEXEC) and doesn't use them
            os.set_inheritable(descriptor, False)
        if flags & socket.MSG_CTRUNC:  # this process may not open so many files: unix(7)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return message, descriptors

    def wait_for_end(self, patience: float | None = None) -> bool:
        """Wait until the other end is gone, so many seconds without a message at most. Whether it is."""
        self._socket.settimeout(patience)
        try:
            while self.receive()[0]:
                continue
        except TimeoutError:
            return False
        finally:
            self._socket.settimeout(None)
        return True

    def finish(self) -> None:
        """Send no more: the other end sees the end of the channel, and can still answer."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


class Listener:
    """Where others of the same user connect."""

    __slots__ = ("_socket",)

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def fileno(self) -> int:
        """The descriptor, to poll or to keep over a fork."""
        return self._socket.fileno()

    def accept(self) -> Channel | None:
        """The next connection; None if it came from somebody else's process (SO_PEERCRED, unix(7))."""
        connection, _ = self._socket.accept()
        _, uid, _ = _credentials(connection)
        if uid != os.geteuid():
            connection.close()
            return None
        return Channel(connection)

    def identify(self) -> None:
        """Have the kernel say with each message who sends it; connections inherit that (SO_PASSCRED, unix(7))."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def close(self) -> None:
        """Listen no longer."""
        self._socket.close()


def listen(directory: int, name: str) -> Listener:
    """Listen at `name` in `directory`, in place of what listened there before. Raises OSError.

    By way of /proc/self/fd, since an address is at most 107 bytes long (unix(7)).
    """
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:  # nobody did
        pass
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end.bind(f"/proc/self/fd/{directory}/{name}")
    end.listen(socket.SOMAXCONN)
    return Listener(end)


def connect(directory: int, name: str) -> Channel:
    """Connect to who listens at `name` in `directory`. Raises OSError: ECONNREFUSED when that process is gone."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        end.connect(f"/proc/self/fd/{directory}/{name}")
    except BaseException:
        end.close()
        raise
    return Channel(end)


def read_all(memory: int) -> bytes:
    """What a memfd holds; the descriptor is closed. Raises OSError."""
    os.lseek(memory, 0, os.SEEK_SET)
    with open(memory, "rb", buffering=0) as file:
        return file.readall()


def _credentials(connection: socket.socket) -> tuple[int, int, int]:
    """Pid, uid and gid of who made a connection (SO_PEERCRED, unix(7))."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(data)
    return pid, uid, gid


def from_descriptor(descriptor: int) -> Channel:
    """The end of a channel that another process has passed."""
    return Channel(socket.socket(fileno=descriptor))


def pair() -> tuple[Channel, Channel]:
    """Two connected ends."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(one), Channel(other)
