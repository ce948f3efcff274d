"""`sb logs`: what the command of a sandbox in the background has written."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from rootless_sb.background import LOG, OLD_LOG
from rootless_sb.cli import lookup, parsing
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import files

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 16  # bytes
_INTERVAL = 0.1  # seconds between looks at the log


def main(arguments: list[str]) -> int:
    """Write a sandbox's log to stdout. Raises SbError."""
    options = parsing.Parser("logs", "What the command of a sandbox in the background has written.", "sb logs -f build")
    options.add_argument("-f", "--follow", action="store_true", help="go on until the sandbox ends")
    options.add_argument("name", metavar="NAME", help="the sandbox's name or id")
    parsed = options.parse_strictly(arguments)
    known = lookup.find(parsed.name, lookup.places())
    with Doing(f"cannot read the log of {parsed.name}"):
        own = os.open(known.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        old, log = _open(own, OLD_LOG), _open(own, LOG)
    if log is None:
        raise SbError(f"{parsed.name} has no log", "it never ran in the background", f"sb start {parsed.name}")
    for chunk in (*_rest(old), *_rest(log)):
        _write(chunk)
    if parsed.follow:
        _follow(own, log)
    return 0


def _follow(own: int, log: int) -> None:
    """Write what comes, from one log to the next, until the sandbox has ended."""
    alive = True
    while alive:
        alive = files.is_locked(own, "lock")  # before the last look: what was written until then is written out
        for chunk in _rest(log):
            _write(chunk)
        newest = _open(own, LOG)
        if newest is not None and os.path.sameopenfile(newest, log):
            os.close(newest)
            if alive:
                time.sleep(_INTERVAL)
        elif newest is not None:
            for chunk in _rest(log):  # what was written to the old one before the new one was there
                _write(chunk)
            os.close(log)
            log, alive = newest, True


def _open(own: int, name: str) -> int | None:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=own)
    except FileNotFoundError:  # there is none yet, or no longer
        return None


def _rest(log: int | None) -> Iterator[bytes]:
    while log is not None and (chunk := os.read(log, _CHUNK)):
        yield chunk


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]
