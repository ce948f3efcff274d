"""What every subcommand's parser has in common: errors in sb's form, and the nearest name to one that isn't known."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NoReturn

from rootless_sb.errors import SbError

if TYPE_CHECKING:
    from collections.abc import Iterable


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises SbError, takes no abbreviations and keeps its examples as they are written."""

    def __init__(self, command: str, description: str, example: str) -> None:
        super().__init__(
            prog=f"sb {command}",
            description=description,
            epilog=f"example: {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Report a bad command line. Raises SbError."""
        raise SbError(message, hint=f"{self.prog} --help")

    def parse_strictly(self, arguments: list[str]) -> argparse.Namespace:
        """Parse; an unknown option is an error that names the nearest known one. Raises SbError."""
        parsed, unknown = self.parse_known_args(arguments)
        if unknown:
            option = unknown[0].partition("=")[0]
            near = nearest(option, self._option_string_actions)
            hint = f"did you mean {near}? ({self.prog} --help lists all)" if near else f"{self.prog} --help lists all"
            raise SbError(f"unknown option {option}", hint=hint)
        return parsed


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, if any is."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), 1, 0.6)), None)
