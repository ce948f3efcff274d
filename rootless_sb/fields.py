"""The text of sb's small files: a line `key=value` for each value, a key as often as it has values. Pure.

`\\` and newlines are escaped. (JSON would have to be imported by the process that the user waits for.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def encode(pairs: Iterable[tuple[str, str]]) -> bytes:
    """The text of some keys and values. A key holds no `=`, a value anything."""
    return "".join(f"{key}={_escape(value)}\n" for key, value in pairs).encode("utf-8", "surrogateescape")


def decode(data: bytes) -> dict[str, list[str]]:
    """The values of each key in a text. Raises ValueError."""
    values: dict[str, list[str]] = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n")[:-1]:  # splitlines() splits at other characters too
        key, equals, value = line.partition("=")
        if not equals:
            raise ValueError("a line without =")
        values.setdefault(key, []).append(_unescape(value))
    return values


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def _unescape(text: str) -> str:
    if "\\" not in text:  # nearly always: `sb ps` reads hundreds of files
        return text
    parts = text.split("\\\\")
    return "\\".join(part.replace("\\n", "\n").replace("\\r", "\r") for part in parts)
