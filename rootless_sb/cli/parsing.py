"""What subcommands have in common: how one is found; a parser with errors in sb's form and no abbreviations; times."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from rootless_sb.errors import SbError, did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

_COLUMNS = 80
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Knows the terminal's width by itself: for each option argparse would ask shutil, whose import takes 3 ms."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    """How wide the terminal is, or is said to be."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told):
        return int(told)
    try:
        return os.get_terminal_size(1).columns or _COLUMNS
    except (OSError, ValueError):  # no terminal, or stdout was closed
        return _COLUMNS


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises SbError, takes no abbreviations and keeps its examples as they are written."""

    def __init__(self, command: str, description: str, example: str) -> None:
        super().__init__(
            prog=f"sb {command}",
            description=description,
            epilog=f"example: {example}",
            formatter_class=_Formatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Report a bad command line. Raises SbError."""
        raise SbError(message, hint=f"{self.prog} --help")

    def parse_strictly(self, arguments: list[str]) -> argparse.Namespace:
        """Parse, options after arguments too unless the rest is a command's; an unknown option is an error that names
        the nearest known one. Raises SbError.
        """
        has_command = any(action.nargs == argparse.REMAINDER for action in self._actions)
        parse = self.parse_known_args if has_command else self.parse_known_intermixed_args
        parsed, unknown = parse(arguments)
        if unknown and (not unknown[0].startswith("-") or _is_behind_dashes(unknown[0], arguments)):
            raise SbError(f"unexpected argument {unknown[0]}", hint=f"{self.prog} --help")
        if unknown:
            option = unknown[0].partition("=")[0]
            near = did_you_mean(option, self._option_string_actions)
            hint = f"{near} ({self.prog} --help lists all)" if near else f"{self.prog} --help lists all"
            raise SbError(f"unknown option {option}", hint=hint)
        return parsed


def _is_behind_dashes(word: str, arguments: list[str]) -> bool:
    """Whether a word comes only after a `--`, behind which nothing is an option."""
    first = arguments.index("--") if "--" in arguments else len(arguments)
    return word in arguments[first + 1 :] and word not in arguments[:first]


def run_subcommand(program: str, arguments: list[str], usage: str, modules: Mapping[str, str]) -> int:
    """Run the subcommand that comes first in `arguments`, and import its module only; its exit status is returned.

    `program`: the words before it, `sb image` say; `modules`: the module of each subcommand. Raises SbError.
    """
    if not arguments:
        sys.stderr.write(usage)
        return 125
    command, *rest = arguments
    if command in ("--help", "-h", "help"):
        sys.stdout.write(usage)
        return 0
    if command not in modules:
        near = nearest(command, modules)
        hint = f"{program} {near} --help, or {program} --help" if near else f"{program} --help"
        raise SbError(f"unknown command {f'{program} {command}'.removeprefix('sb ')}", hint=hint)
    import importlib

    status: int = importlib.import_module(modules[command]).main(rest)
    return status


def seconds(text: str) -> float:
    """A time like `30s`, `1.5m`, `2h`, `1d` or, in seconds, `30`. Raises SbError. Pure."""
    digits, factor = (text[:-1], _SECONDS[text[-1]]) if text[-1:] in _SECONDS else (text, 1)
    if not digits.replace(".", "", 1).isdecimal() or not digits.isascii() or float(digits) <= 0:
        raise SbError(f"not a time: {text}", hint="a number above 0 and s, m, h or d: 30s")
    return float(digits) * factor
