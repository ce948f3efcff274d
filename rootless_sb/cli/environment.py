"""The variables that `-e` and `--env-file` set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless_sb.errors import Doing, SbError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def variables(files: Sequence[str], words: Sequence[str], outside: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Names and values, files first, later ones winning. Raises SbError for a file that can't be read or a bad name."""
    found: dict[str, str] = {}
    for path in files:
        with Doing(f"cannot read {path}"), open(path, encoding="utf-8", errors="surrogateescape") as file:
            found.update(assignments(file.read().splitlines(), outside))
    found.update(assignments(words, outside))
    return tuple(found.items())


def assignments(words: Sequence[str], outside: Mapping[str, str]) -> dict[str, str]:
    """What `K=V` and `K` (from outside, if set there) mean; empty lines and `#` comments are passed over. Pure."""
    found = {}
    for word in words:
        if not word.strip() or word.lstrip().startswith("#"):
            continue
        name, equals, value = word.partition("=")
        if not name or "\0" in word:
            raise SbError(f"not a variable: {word}", hint="-e NAME=VALUE, or -e NAME to take it from outside")
        if equals:
            found[name] = value
        elif name in outside:
            found[name] = outside[name]
    return found
