"""`sb exec`: one more command in a sandbox."""

from __future__ import annotations

import argparse
import os

from rootless_sb import execution, stdio
from rootless_sb.cli import lookup, parsing
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import descriptors, processes
from rootless_sb.plan import Target
from rootless_sb.state import EXITED, LOST, State


def main(arguments: list[str]) -> int:
    """Run the command line after `sb exec`; returns the exit status. Raises SbError."""
    parsed = parser().parse_strictly(arguments)
    if not parsed.command:
        raise SbError("no command", hint=f"sb exec {parsed.name} COMMAND")
    timeout = parsing.seconds(parsed.timeout) if parsed.timeout is not None else 0.0
    known = lookup.find(parsed.name, lookup.places())
    if known.state.status in (EXITED, LOST):
        from rootless_sb.cli import start

        streams = start.Streams(parsed.tty, parsed.interactive, detach=False)
        return start.again(known, target(parsed, known.state, terminal=False), streams, timeout)
    standard = descriptors.describe_standard()
    attachments = stdio.attachments(standard, parsed.tty, parsed.interactive)
    wanted = target(parsed, known.state, terminal=stdio.on_terminal(attachments))
    with Doing(f"cannot open {known.directory}"):
        own = os.open(known.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return execution.run(own, wanted, attachments, timeout)


def parser() -> parsing.Parser:
    """The options of `sb exec`."""
    options = parsing.Parser("exec", "Run one more command in a sandbox, behind its barriers.", "sb exec build make")
    options.usage = "sb exec [OPTIONS] NAME [--] COMMAND [ARG …]"
    add = options.add_argument
    add("-e", "--env", metavar="K[=V]", action="append", default=[], help="set a variable, or take it from outside")
    add("--env-file", metavar="FILE", action="append", default=[], help="set the variables in FILE, a K=V each line")
    add("-w", "--workdir", metavar="DIR", help="the working directory inside (default: that of the sandbox's command)")
    add("-t", "--tty", action=argparse.BooleanOptionalAction, help="a terminal (default: when stdin and stdout are)")
    add("-i", "--interactive", action="store_true", help="read stdin although it is a terminal and stdout is not")
    add("--timeout", metavar="TIME", help="end the command after 30s, 5m, 2h …; the exit status is 124 then")
    add("name", metavar="NAME", help="the sandbox's name or id")
    add("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return options


def target(parsed: argparse.Namespace, known: State, *, terminal: bool) -> Target:
    """The command: in the directory and with the variables of the sandbox's own, and what was asked. Raises SbError."""
    from rootless_sb.cli import environment

    variables = dict(known.environment)
    if terminal and "TERM" in os.environ:
        variables["TERM"] = os.environ["TERM"]
    variables.update(environment.variables(parsed.env_file, parsed.env, os.environ))
    directory = parsed.workdir or known.directory
    if not directory.startswith("/"):
        raise SbError(f"--workdir {directory}", "not an absolute path", f"sb exec -w {os.path.abspath(directory)} …")
    umask = os.umask(0o022)
    command = parsed.command[1:] if parsed.command[:1] == ["--"] else parsed.command
    return Target(tuple(command), tuple(variables.items()), directory, umask, processes.ignored_signals())
