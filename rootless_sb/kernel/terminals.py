"""Terminals: ptys of the sandbox's own devpts, window sizes, raw mode. pty(7), termios(3), tty_ioctl(4)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
from typing import Any

# Two ioctls that the termios module of Python 3.11 doesn't name: <asm-generic/ioctls.h>.
_TIOCSPTLCK = 0x40045431
_TIOCGPTN = 0x80045430


def open_pty(devpts: int) -> tuple[int, int]:
    """A new pty of a devpts, given a descriptor of its root: the descriptors of master and slave. Raises OSError."""
    master = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=devpts)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    (number,) = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, struct.pack("i", 0)))
    return master, os.open(str(number), os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=devpts)


def take_controlling_terminal(slave: int) -> None:
    """Make `slave` the controlling terminal of the calling session leader."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def in_foreground() -> bool:
    """Whether this process is of the foreground job of its controlling terminal: a shell would resume it."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # ENXIO: there is none (tty(4))
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # it was hung up
        return False
    finally:
        os.close(terminal)


def copy_window_size(source: int, target: int) -> None:
    """Give the terminal `target` the rows and columns of the terminal `source`. Raises OSError."""
    fcntl.ioctl(target, termios.TIOCSWINSZ, fcntl.ioctl(source, termios.TIOCGWINSZ, bytes(8)))


def modes(terminal: int) -> list[Any]:
    """The terminal's modes, for `set_modes`. Raises OSError: EIO once it was hung up."""
    try:
        return termios.tcgetattr(terminal)
    except termios.error as error:  # the one exception of the kernel's errors that is no OSError
        raise OSError(*error.args) from error


def set_modes(terminal: int, attributes: list[Any]) -> None:
    """Set a terminal's modes after what was written to it has gone out. Raises OSError: EIO once it was hung up."""
    while True:
        try:
            termios.tcsetattr(terminal, termios.TCSADRAIN, attributes)
        except termios.error as error:  # as in `modes`
            if error.args[0] == errno.EINTR:  # stopped in the background (SIGTTOU) and continued
                continue
            raise OSError(*error.args) from error
        return


def raw(attributes: list[Any]) -> list[Any]:
    """The same modes with every character passed through untouched, as cfmakeraw(3) does."""
    iflag, oflag, cflag, lflag, ispeed, ospeed, characters = attributes
    iflag &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
        | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )  # fmt: skip
    oflag &= ~termios.OPOST
    lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    characters = [*characters]
    characters[termios.VMIN] = 1
    characters[termios.VTIME] = 0
    return [iflag, oflag, cflag, lflag, ispeed, ospeed, characters]
