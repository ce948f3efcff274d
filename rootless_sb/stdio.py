"""What the sandbox gets as stdin, stdout and stderr. Pure: `relay` carries it out.

- A terminal of the host is never handed over: whoever holds one can type into it (TIOCSTI). With a pty the command gets
  a terminal of the sandbox's own instead.
- A regular file isn't either: its descriptor could be reopened for writing through /proc/self/fd.
- Pipes, sockets and /dev/null are handed over as they are: the bytes don't pass through us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.kernel.descriptors import NULL, PIPE, TERMINAL

if TYPE_CHECKING:
    from rootless_sb.kernel.descriptors import Descriptor

PTY = "pty"
PASS = "pass"  # the descriptor itself
SHUT = "shut"  # /dev/null
COPY = "copy"  # a pipe of ours, which the supervisor fills or empties


class Attachment(NamedTuple):
    """How the standard descriptor `inside` is served, and from which of ours. `outside` is -1 for SHUT."""

    inside: int
    kind: str
    outside: int


def wants_pty(tty: bool | None, descriptors: tuple[Descriptor, ...]) -> bool:
    """Whether the command gets a pty: as asked, or when stdin and stdout are terminals."""
    if tty is not None:
        return tty
    terminals = {descriptor.number for descriptor in descriptors if descriptor.kind == TERMINAL}
    return {0, 1} <= terminals


def on_terminal(attached: tuple[Attachment, ...]) -> bool:
    """Whether the command gets a pty."""
    return any(each.kind == PTY for each in attached)


def detached(tty: bool | None) -> tuple[Attachment, Attachment, Attachment]:
    """How 0, 1 and 2 of a command in the background are served: what it writes goes to our own stdout, in order.

    Nothing is read for it: its terminal's input comes from `sb attach`.
    """
    if tty:
        return Attachment(0, PTY, -1), Attachment(1, PTY, 1), Attachment(2, PTY, 2)
    return Attachment(0, SHUT, -1), Attachment(1, COPY, 1), Attachment(2, COPY, 1)


def attachments(
    descriptors: tuple[Descriptor, ...], tty: bool | None, interactive: bool
) -> tuple[Attachment, Attachment, Attachment]:
    """How each of 0, 1 and 2 is served, given what they are outside."""
    pty = wants_pty(tty, descriptors)
    by_number = {descriptor.number: descriptor for descriptor in descriptors}

    def attach(number: int) -> Attachment:
        descriptor = by_number.get(number)
        if pty and (number < 2 or (descriptor is not None and descriptor.kind == TERMINAL)):
            return Attachment(number, PTY, number)
        if descriptor is None:
            return Attachment(number, SHUT, -1)
        if descriptor.kind in (NULL, PIPE):
            return Attachment(number, PASS, number)
        if number == 0 and descriptor.kind == TERMINAL and not interactive:
            return Attachment(number, SHUT, -1)
        return Attachment(number, COPY, descriptor.shared_with if number else 0)

    return attach(0), attach(1), attach(2)
