"""Carries the bytes between the caller's descriptors and the sandbox's: pipes for files, a pty for a terminal."""

from __future__ import annotations

import errno
import os
import select
from typing import TYPE_CHECKING

from rootless_sb.kernel import descriptors, terminals
from rootless_sb.stdio import COPY, PASS, PTY

if TYPE_CHECKING:
    from typing import Any

    from rootless_sb.stdio import Attachment

_END_OF_FILE = b"\x04"  # Ctrl-D, which ends the input of whoever reads a terminal: termios(3), VEOF
_CHUNK = 1 << 16  # bytes; a pipe's own size (pipe(7))


# What the target finds at which number: a descriptor, -1 for /dev/null, None where the pty belongs.
Standard = dict[int, int | None]


def opened(standard: Standard) -> set[int]:
    """The descriptors among these that aren't the caller's own 0, 1 and 2."""
    return {descriptor for descriptor in standard.values() if descriptor is not None and descriptor > 2}


def release(standard: Standard) -> None:
    """Close our copies of what somebody else holds by now, so that their ends are seen."""
    for descriptor in opened(standard):
        os.close(descriptor)


class Pump:
    """Copies from one descriptor to another, one chunk at a time, never waiting where it wasn't told that it may."""

    __slots__ = ("_at_end", "_last", "_own", "_pending", "open", "read", "sink", "source")

    def __init__(self, source: int, sink: int, own: tuple[int, ...] = (), at_end: bytes = b"") -> None:
        self.source = source
        self.sink = sink
        self.open = True
        self._own = own
        self._at_end = at_end  # what to write when the source has ended
        self._last = False
        self._pending = b""
        self.read = 0  # bytes, so far

    def interest(self) -> tuple[int, int]:
        """The descriptor and the poll(2) events that it waits for."""
        return (self.sink, select.POLLOUT) if self._pending else (self.source, select.POLLIN)

    def move(self) -> None:
        """Do one read or one write; ends the pump at the end of the source or when nobody reads the sink."""
        try:
            if self._pending:
                self._pending = self._pending[os.write(self.sink, self._pending) :]
                if self._last and not self._pending:
                    self.end()
            else:
                self._read()
        except BlockingIOError:
            return
        except OSError as error:
            # EIO is how a pty says that its other side is closed (pty(7)); EPIPE, that nobody reads any more.
            if error.errno not in (errno.EIO, errno.EPIPE):
                raise
            self.end()

    def _read(self) -> None:
        try:
            self._pending = os.read(self.source, _CHUNK)
        except BlockingIOError:
            raise
        except OSError:  # a source that can't be read is at its end: the command may never ask for it
            self._pending = b""
        self.read += len(self._pending)
        if not self._pending:
            self._last = True
            self._pending = self._at_end
            if not self._pending:
                self.end()

    def end(self) -> None:
        """Stop, and close what is our own end of it, so that who is at the other end sees it."""
        if self.open:
            for descriptor in self._own:
                os.close(descriptor)
        self.open = False

    def pending_bytes(self) -> int:
        """How much was read from the source and not yet written to the sink."""
        return len(self._pending)


def _pass_over_hangup(error: OSError) -> None:
    """Raise any error but the one of a terminal that was hung up (EIO, termios(3)): SIGHUP tells us of that as well."""
    if error.errno != errno.EIO:
        raise error


class Relay:
    """All the pumps of one run, and the caller's terminal while it is in raw mode."""

    __slots__ = ("_filled", "_keys", "_master", "_modes", "_outputs", "_terminal", "_typing", "inside")

    def __init__(self, attachments: tuple[Attachment, ...]) -> None:
        self._outputs: list[Pump] = []
        self._filled: list[tuple[Pump, int]] = []  # pipes that the sandbox reads: who fills one, and its reading end
        self._keys: Pump | None = None  # what is typed
        ptys = (each.outside for each in attachments if each.kind == PTY)
        self._terminal = next((number for number in ptys if os.isatty(number)), None)
        self._modes: list[Any] | None = None
        self._typing = any(each.inside == 0 and each.outside == 0 for each in attachments)
        self._master: int | None = None
        pipes: dict[tuple[int, bool], int] = {}
        self.inside: Standard = {each.inside: self._descriptor(each, pipes) for each in attachments}

    def _descriptor(self, attachment: Attachment, pipes: dict[tuple[int, bool], int]) -> int | None:
        if attachment.kind == PTY:
            return None
        if attachment.kind == PASS:
            return attachment.outside
        if attachment.kind != COPY:
            return -1
        shared = (attachment.outside, attachment.incoming)  # an input and an output share no pipe
        if shared not in pipes:
            pipes[shared] = self._pipe(attachment)
        return pipes[shared]

    def _pipe(self, attachment: Attachment) -> int:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        if attachment.incoming:
            os.set_blocking(writer, False)
            self._filled.append((Pump(attachment.outside, writer, own=(writer,)), os.dup(reader)))
            return reader
        self._outputs.append(Pump(reader, attachment.outside, own=(reader,)))
        return writer

    def attach_terminal(self, master: int) -> None:
        """Connect the sandbox's pty; the caller's terminal goes to raw mode until `restore`."""
        self._master = master
        os.set_blocking(master, False)
        self.make_raw()
        if self._typing:
            self._keys = Pump(0, master, at_end=_END_OF_FILE)
        self._outputs.append(Pump(master, 1))

    def master(self) -> int | None:
        """The master of the command's pty, if it has one."""
        return self._master

    def make_raw(self) -> None:
        """Put the caller's terminal into raw mode while there is a pty, and give that the terminal's size."""
        if self._terminal is not None and self._master is not None:
            self.resize()
            try:
                self._modes = terminals.modes(self._terminal)
                terminals.set_modes(self._terminal, terminals.raw(self._modes))
            except OSError as error:
                _pass_over_hangup(error)

    def resize(self) -> None:
        """Give the pty the size of the caller's terminal."""
        if self._terminal is not None and self._master is not None:
            try:
                terminals.copy_window_size(self._terminal, self._master)
            except OSError as error:
                _pass_over_hangup(error)

    def restore(self) -> None:
        """Give the caller's terminal its modes back."""
        if self._modes is not None and self._terminal is not None:
            try:
                terminals.set_modes(self._terminal, self._modes)
            except OSError as error:
                _pass_over_hangup(error)
            self._modes = None

    def inputs(self) -> list[Pump]:
        """The pumps that bring the sandbox something and aren't done."""
        pumps = (*(pump for pump, _ in self._filled), *((self._keys,) if self._keys is not None else ()))
        return [pump for pump in pumps if pump.open]

    def outputs(self) -> list[Pump]:
        """The pumps that carry out what the sandbox wrote and aren't done."""
        return [pump for pump in self._outputs if pump.open]

    def give_back(self) -> None:
        """After the sandbox's end: rewind files to where the sandbox stopped reading them."""
        for pump, reader in self._filled:
            # No more than we have read: the command can fill that pipe too, by way of /proc/self/fd.
            unread = min(descriptors.unread_bytes(reader) + pump.pending_bytes(), pump.read)
            pump.end()
            if unread:
                try:
                    os.lseek(pump.source, -unread, os.SEEK_CUR)
                except OSError as error:
                    if error.errno != errno.ESPIPE:  # a device or a terminal: what was read of it is gone
                        raise
            os.close(reader)
        self._filled = []
