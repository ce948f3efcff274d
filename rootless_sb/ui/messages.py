"""What sb says to people, one line at a time, on stderr."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless_sb.errors import SbError

_NAMED = 3  # hidden paths that are named


def printable(text: str) -> str:
    """The text with control characters and undecodable bytes escaped: a name can't write to the terminal. Pure."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that isn't UTF-8 (surrogateescape)
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def say(text: str) -> None:
    """Write one line. A stderr that is closed or full doesn't matter more than the message."""
    try:
        os.write(2, f"sb: {printable(text)}\n".encode())
    except OSError:  # nobody reads it: there is nowhere left to say so
        return


def warn(text: str) -> None:
    """A line about something that is not as it should be, and that sb goes on without."""
    say(f"warning: {text}")


def warn_all(texts: tuple[str, ...]) -> None:
    """A line for each."""
    for text in texts:
        warn(text)


def thrown_away(files: int, size: int) -> None:
    """What was lost with a layer that wasn't kept; nothing for an empty one."""
    if files:
        say(f"{files} file{'s' if files > 1 else ''} ({human_size(size)}) thrown away; --keep keeps them")


def withheld(word: str, paths: Sequence[str], home: str) -> None:
    """What the command hasn't got by default and wanted, with the option that shows it. `word`: hidden, or held."""
    inside = home.rstrip("/") + "/"
    names = [f"~/{path.removeprefix(inside)}" if path.startswith(inside) else path for path in paths]
    if len(names) <= _NAMED:
        say(f"{word}: {', '.join(names)} ({' '.join(f'--show {name}' for name in names)})")
    else:
        say(f"{word}: {', '.join(names[:_NAMED])} and {len(names) - _NAMED} more (--show PATH)")


def phases(durations: list[tuple[str, float]]) -> None:
    """Where the time went: a line for each phase, in milliseconds since the beginning."""
    passed = 0.0
    for phase, length in durations:
        passed += length
        say(f"{passed:8.1f} ms {length:8.1f}  {phase}")


def human_size(size: int) -> str:
    """Bytes as people read them, in powers of 1000: `812 B`, `4.1 GB`. Pure."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.1f} {unit}" if unit != "B" and value < 10 else f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def report(error: SbError) -> None:
    """An error, and the hint behind an empty line."""
    say(str(error))
    if error.hint:
        try:
            os.write(2, f"\nhint: {printable(error.hint)}\n".encode())
        except OSError:  # as in `say`
            return
