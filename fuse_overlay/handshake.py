"""The exchange of FUSE_INIT between kernel and libfuse, with us in between.

We read the kernel's request and hand it to libfuse through a socket that takes the place of /dev/fuse; its reply comes
out of that, is amended, and goes to the kernel. Then /dev/fuse gets its place back, and we are out of the way.
"""

from __future__ import annotations

import os
import socket

from fuse_overlay import initmessage
from fuse_overlay.errors import OverlayError
from fuse_overlay.kernel.shortcut import SHORTCUT

# Room for whatever the kernel sends first: it refuses buffers of less than 8 KiB (FUSE_MIN_READ_BUFFER, linux/fuse.h).
_BUFFER = 1 << 17


class Handshake:
    """The exchange, once libfuse has a request to answer on its descriptor."""

    __slots__ = ("_device", "_fd", "_flags", "_ours")

    def __init__(self, fd: int) -> None:
        """Read the kernel's FUSE_INIT and let libfuse find it, and only it, on `fd`.

        `fd` is the descriptor of /dev/fuse that libfuse reads from, of a mount that there is already. Raises OSError;
        if it does, `fd` is as it was and libfuse can do without us.
        """
        self._fd = fd
        # Packets: a read gives a whole request and a write is a whole reply, as on /dev/fuse.
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._device = os.dup(fd)
            try:
                request = os.read(self._device, _BUFFER)
            except OSError:
                os.close(self._device)
                self._ours.close()
                raise
            self._flags = initmessage.offered(request)
            self._ours.send(request)
            os.dup2(theirs.fileno(), fd, inheritable=False)

    def finish(self) -> None:
        """Pass libfuse's reply on, and let it read requests from /dev/fuse.

        Raises OSError, as when the mount is gone, and OverlayError when libfuse hasn't answered.
        """
        try:
            reply = self._ours.recv(_BUFFER, socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise OverlayError("libfuse did not answer the kernel's first request") from None
        finally:
            os.dup2(self._device, self._fd, inheritable=False)
            self._ours.close()
        # Of libfuse's own accord it would also know what to make of the longer requests.
        longer = initmessage.SETXATTR_EXT & self._flags & ~initmessage.asked(reply)
        try:
            more = longer if longer and SHORTCUT.take_longer_requests() else 0
            os.write(self._device, initmessage.amended(reply, self._flags, more))
        finally:
            os.close(self._device)
