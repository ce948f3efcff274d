"""The options that `sb run`, `sb exec` and `sb start` share, each said once."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rootless_sb.cli.parsing import Parser


def add_variables(options: Parser) -> None:
    """-e and --env-file: see `environment`."""
    add = options.add_argument
    add("-e", "--env", metavar="K[=V]", action="append", default=[], help="set a variable, or take it from outside")
    add("--env-file", metavar="FILE", action="append", default=[], help="set the variables in FILE, a K=V each line")


def add_streams(options: Parser) -> None:
    """-t and -i: see `stdio`."""
    add = options.add_argument
    add("-t", "--tty", action=argparse.BooleanOptionalAction, help="a terminal (default: when stdin and stdout are)")
    add("-i", "--interactive", action="store_true", help="read stdin although it is a terminal and stdout is not")


def add_identity(options: Parser, default: str) -> None:
    """-u; `default` says in words who it is otherwise."""
    described = f"who runs it, a name or number of the sandbox's (default: {default})"
    options.add_argument("-u", "--user", metavar="U[:G]", default="", help=described)


def add_watching(options: Parser) -> None:
    """--timeout and --status-fd."""
    add = options.add_argument
    add("--timeout", metavar="TIME", help="end the command after 30s, 5m, 2h …; the exit status is 124 then")
    add("--status-fd", metavar="N", type=int, help="tell descriptor N in JSON lines when it starts and ends")


def add_choices(options: Parser) -> None:
    """--conflicts and --allow-risky: see `review.choosing`, whose words these are."""
    add = options.add_argument
    choices = ("fail", "host", "sandbox")
    add("--conflicts", choices=choices, default="fail", help="who wins where the machine has changed too")
    add("--allow-risky", action="store_true", help="also what runs by itself, without asking")


def add_command(options: Parser) -> None:
    """COMMAND and its arguments, which end the options."""
    options.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def command(parsed: argparse.Namespace) -> tuple[str, ...]:
    """The words of the command, without the `--` that may stand before them."""
    words: list[str] = parsed.command
    return tuple(words[1:] if words[:1] == ["--"] else words)
