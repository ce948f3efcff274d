"""The options that `sb run`, `sb exec` and `sb start` share, each said once."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from rootless_sb.errors import Doing, SbError
from rootless_sb.security.seccomp import DEFAULT, UNCONFINED

if TYPE_CHECKING:
    from rootless_sb.cli.parsing import Parser
    from rootless_sb.kernel.descriptors import Descriptor

# Options of docker's that ask for what sb does anyway.
_ALWAYS_SO = (("no-new-privileges", ""), ("no-new-privileges", "true"))


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


def add_preserved(options: Parser) -> None:
    """--preserve-fd: see `stdio`."""
    add = options.add_argument
    add("--preserve-fd", metavar="N[,N]", action="append", default=[], help="descriptors that the command has too")


def descriptors(parsed: argparse.Namespace) -> tuple[Descriptor, ...]:
    """What the caller has at 0, 1, 2 and the numbers that --preserve-fd names. Raises SbError."""
    from rootless_sb.kernel import descriptors

    numbers = [_preserved(word, parsed.status_fd) for text in parsed.preserve_fd for word in text.split(",")]
    found = descriptors.describe(dict.fromkeys((*descriptors.STANDARD, *numbers)))
    for number in numbers:
        if number not in (each.number for each in found):
            raise SbError(f"--preserve-fd {number}", "not open", f"sb run --preserve-fd {number} COMMAND {number}<FILE")
    return found


def _preserved(word: str, status: int | None) -> int:
    """The number of a descriptor that can be preserved. Raises SbError."""
    if not word.isascii() or not word.isdecimal():
        raise SbError(f"--preserve-fd {word}", "not the number of a descriptor", "--preserve-fd 3, or 3,4")
    if int(word) <= 2:
        raise SbError(f"--preserve-fd {word}", "0, 1 and 2 are there in any case", "--preserve-fd 3")
    if int(word) == status:
        why = "what --status-fd tells could be forged"
        raise SbError(f"--preserve-fd {word} and --status-fd {word}", why, "another number for one of them")
    return int(word)


def add_identity(options: Parser, default: str) -> None:
    """-u; `default` says in words who it is otherwise."""
    described = f"who runs it, a name or number of the sandbox's (default: {default})"
    options.add_argument("-u", "--user", metavar="U[:G]", default="", help=described)


def add_groups(options: Parser) -> None:
    """--groups, and what podman calls the default."""
    add = options.add_argument
    add("--groups", choices=("keep", "none"), help="none: your supplementary groups open no files (default: keep)")
    add("--group-add", choices=("keep-groups",), help="the same as --groups keep")


def keeps_groups(parsed: argparse.Namespace) -> bool:
    """Whether the user's supplementary groups open files. Raises SbError for both at once."""
    if parsed.groups == "none" and parsed.group_add:
        raise SbError("--groups none and --group-add", "they exclude each other", "one of them")
    return bool(parsed.groups != "none")


def add_barriers(options: Parser) -> None:
    """--cap-add, --seccomp and the like: see `security`."""
    add = options.add_argument
    add("--cap-add", metavar="CAP", action="append", default=[], help="a capability more for root, or ALL that can be")
    add("--cap-drop", metavar="CAP", action="append", default=[], help="a capability less for root, or ALL")
    add("--seccomp", metavar="PROFILE", help="default, unconfined, or a FILE in the OCI JSON format")
    add("--security-opt", metavar="OPTION", action="append", default=[], help="as docker's: seccomp=PROFILE")
    add("--nested", action="store_true", help="let the sandbox make namespaces and mounts of its own")


def seccomp(parsed: argparse.Namespace) -> str:
    """The profile that --seccomp or --security-opt names: `default`, `unconfined` or an absolute path. Raises SbError.
    """
    named: str | None = parsed.seccomp
    for option in parsed.security_opt:
        name, equals, value = option.partition("=")
        if name == "seccomp" and equals:
            named = named or value
        elif (name, value) not in _ALWAYS_SO:
            raise SbError(f"--security-opt {option}", "not an option that sb knows", "--security-opt seccomp=PROFILE")
    if named is None or named in (DEFAULT, UNCONFINED):
        return named or DEFAULT
    return absolute(named)


def absolute(path: str) -> str:
    """A path as it is from everywhere. Raises SbError: it begins in the working directory, and that was removed."""
    with Doing(f"cannot find {path}: the working directory", "cd elsewhere"):
        return os.path.abspath(path)


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
