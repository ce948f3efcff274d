"""What the sandbox gets as stdin, stdout and stderr, and of what `--preserve-fd` names. Pure: `relay` carries it out.

- A terminal of the host is never handed over: whoever holds one can type into it (TIOCSTI). With a pty the command gets
  a terminal of the sandbox's own instead.
- A regular file isn't either: its descriptor could be reopened for writing through /proc/self/fd.
- Pipes, sockets and /dev/null are handed over as they are: the bytes don't pass through us.
- Of what is preserved, a terminal and what can't go through a pipe (a directory, a file open for both) are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError
from rootless_sb.kernel.descriptors import BOTH, DIRECTORY, NAMELESS, NEITHER, NULL, PIPE, READ, STANDARD, TERMINAL

if TYPE_CHECKING:
    from rootless_sb.kernel.descriptors import Descriptor

PTY = "pty"
PASS = "pass"  # the descriptor itself
SHUT = "shut"  # /dev/null
COPY = "copy"  # a pipe of ours, which the supervisor fills or empties


class Attachment(NamedTuple):
    """How the descriptor `inside` is served, and from which of ours; `outside` is -1 for SHUT. `incoming`: of a COPY,
    the sandbox reads it.
    """

    inside: int
    kind: str
    outside: int
    incoming: bool = False


def wants_pty(tty: bool | None, descriptors: tuple[Descriptor, ...]) -> bool:
    """Whether the command gets a pty: as asked, or when stdin and stdout are terminals."""
    if tty is not None:
        return tty
    terminals = {descriptor.number for descriptor in descriptors if descriptor.kind == TERMINAL}
    return {0, 1} <= terminals


def on_terminal(attached: tuple[Attachment, ...]) -> bool:
    """Whether the command gets a pty."""
    return any(each.kind == PTY for each in attached)


def detached(descriptors: tuple[Descriptor, ...], tty: bool | None) -> tuple[Attachment, ...]:
    """How 0, 1 and 2 of a command in the background are served: what it writes goes to our own stdout, in order; and
    what else is preserved. Raises SbError.

    Nothing is read for it: its terminal's input comes from `sb attach`.
    """
    first: dict[int, int] = {}  # of those that share a file: 0, 1 and 2 are others by the time that it runs
    others = _preserved(
        tuple(
            each._replace(shared_with=first.setdefault(each.shared_with, each.number))
            for each in descriptors
            if each.number not in STANDARD
        )
    )
    if tty:
        return Attachment(0, PTY, -1), Attachment(1, PTY, 1), Attachment(2, PTY, 2), *others
    return Attachment(0, SHUT, -1), Attachment(1, COPY, 1), Attachment(2, COPY, 1), *others


def _preserved(descriptors: tuple[Descriptor, ...]) -> tuple[Attachment, ...]:
    """How descriptors that the command is to find under their own numbers are served. Raises SbError."""
    found = []
    for each in descriptors:
        if why := _refusal(each):
            raise SbError(f"--preserve-fd {each.number}", *why)
        as_it_is = each.kind in (NULL, PIPE)
        outside = each.number if as_it_is else each.shared_with
        found.append(Attachment(each.number, PASS if as_it_is else COPY, outside, incoming=each.access == READ))
    return tuple(found)


def _refusal(descriptor: Descriptor) -> tuple[str, str] | None:
    """Why a descriptor can't be preserved, and a hint; None if it can."""
    if descriptor.kind == DIRECTORY:
        return "whoever holds a directory reaches all of this machine by its ..", "-v DIR lets the command have it"
    if descriptor.kind == TERMINAL:
        return "whoever holds a terminal can type into it", "-t gives the command one of its own"
    if descriptor.kind == NAMELESS or descriptor.access == NEITHER:
        return "it is neither a file nor a pipe nor a socket", "3<FILE, 3>FILE, or a pipe or socket"
    if descriptor.access == BOTH and descriptor.kind not in (NULL, PIPE):
        return "a file that is open for both can't go through a pipe", "3<FILE or 3>FILE; or -v FILE"
    return None


def attachments(
    descriptors: tuple[Descriptor, ...], tty: bool | None, interactive: bool
) -> tuple[Attachment, ...]:
    """How each of 0, 1 and 2 is served, given what they are outside, and what else is preserved. Raises SbError."""
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
        return Attachment(number, COPY, descriptor.shared_with if number else 0, incoming=not number)

    others = tuple(each for each in descriptors if each.number not in STANDARD)
    return attach(0), attach(1), attach(2), *_preserved(others)


def preserved(attached: tuple[Attachment, ...]) -> set[int]:
    """The caller's descriptors besides 0, 1 and 2 that these are served from."""
    return {each.outside for each in attached if each.outside not in (-1, *STANDARD)}
