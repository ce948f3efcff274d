"""What a run takes from an image, as docker takes it. Pure."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError

if TYPE_CHECKING:
    from rootless_sb.image.record import Image

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Base(NamedTuple):
    """An image as a run's lower layers. `directory`: what to hold while it runs; `trees`: the topmost first."""

    image: Image
    directory: str
    trees: tuple[str, ...]


def command(image: Image, asked: tuple[str, ...], entrypoint: str | None) -> tuple[str, ...]:
    """The program and its arguments. `entrypoint`: --entrypoint, empty to have none. Raises SbError for nothing at all.

    An entrypoint that was asked for takes the image's own arguments with it.
    """
    if entrypoint is not None:
        words = (*((entrypoint,) if entrypoint else ()), *asked)
    else:
        words = (*image.entrypoint, *(asked or image.command))
    if not words:
        raise SbError("no command", "the image doesn't say what to run", "name one: sb run --image … /bin/sh")
    return words


def environment(image: Image, *, hostname: str, terminal: str, user: str) -> dict[str, str]:
    """The variables: few of ours, then the image's. `terminal`: TERM, empty without one."""
    found = {"PATH": PATH, "HOSTNAME": hostname}
    if terminal:
        found["TERM"] = terminal
    if not user:
        found["HOME"] = "/root"  # another user's is read from the image's passwd
    for each in image.environment:
        name, _, value = each.partition("=")
        found[name] = value
    return found


def directories(image: Image, workdir: str) -> tuple[str, ...]:
    """The directories that are made if the image lacks them: the working directory, and where its volumes would be."""
    return tuple(dict.fromkeys(path for path in (workdir, *image.volumes) if path.startswith("/")))


def stop_signal(text: str) -> int:
    """The signal that asks the program to end: `SIGQUIT`, `QUIT`, `3`, `SIGRTMIN+3`; SIGTERM if it can't be that."""
    if text.isascii() and text.isdecimal():
        return int(text) if 0 < int(text) < signal.NSIG else signal.SIGTERM
    name, plus, offset = text.upper().partition("+")
    number = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", signal.SIGTERM)
    if not isinstance(number, signal.Signals):
        return signal.SIGTERM
    if plus and offset.isdecimal() and number + int(offset) < signal.NSIG:
        return number + int(offset)
    return int(number)
