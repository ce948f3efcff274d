"""`sb exec`: one more command in a sandbox."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless_sb import execution, stdio
from rootless_sb.cli import lookup, parsing
from rootless_sb.cli import options as shared
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import processes
from rootless_sb.program import Target, without_own
from rootless_sb.state import EXITED, LOST, State
from rootless_sb.status_stream import StatusStream

if TYPE_CHECKING:
    import argparse


def main(arguments: list[str]) -> int:
    """Run the command line after `sb exec`; returns the exit status. Raises SbError."""
    parsed = parser().parse_strictly(arguments)
    if not parsed.command:
        raise SbError("no command", hint=f"sb exec {parsed.name} COMMAND")
    with StatusStream(parsed.status_fd) as status:
        return _run(parsed, status)


def _run(parsed: argparse.Namespace, status: StatusStream) -> int:
    timeout = parsing.seconds(parsed.timeout) if parsed.timeout is not None else 0.0
    caller = shared.descriptors(parsed)
    known = lookup.find(parsed.name, lookup.places())
    if known.state.status in (EXITED, LOST):
        from rootless_sb.cli import start

        streams = start.Streams(parsed.tty, parsed.interactive, detach=False)
        program = target(parsed, known.state, terminal=False)
        return start.again(known, program, streams, caller, timeout, status)
    attachments = stdio.attachments(caller, parsed.tty, parsed.interactive)
    wanted = target(parsed, known.state, terminal=stdio.on_terminal(attachments))

    def started(pid_inside: int) -> None:
        if status.descriptor is not None:
            from rootless_sb import census

            pid = census.outside(known.state.supervisor, pid_inside)
            status.started(known.state.identifier, pid, known.state.barriers)

    with Doing(f"cannot open {known.directory}"):
        own = os.open(known.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    code, reason = execution.run(own, wanted, attachments, timeout, started)
    status.exited(code, reason)
    return code


def parser() -> parsing.Parser:
    """The options of `sb exec`."""
    options = parsing.Parser("exec", "Run one more command in a sandbox, behind its barriers.", "sb exec build make")
    options.usage = "sb exec [OPTIONS] NAME [--] COMMAND [ARG …]"
    add = options.add_argument
    shared.add_variables(options)
    add("-w", "--workdir", metavar="DIR", help="the working directory inside (default: that of the sandbox's command)")
    shared.add_identity(options, "the user of the sandbox's command")
    shared.add_streams(options)
    shared.add_preserved(options)
    shared.add_watching(options)
    add("name", metavar="NAME", help="the sandbox's name or id")
    shared.add_command(options)
    return options


def target(parsed: argparse.Namespace, known: State, *, terminal: bool) -> Target:
    """The command: in the directory and with the variables of the sandbox's own, and what was asked. Raises SbError."""
    from rootless_sb.cli import environment

    variables = dict(known.environment)
    if parsed.user:
        variables = without_own(variables)
    if terminal and "TERM" in os.environ:
        variables["TERM"] = os.environ["TERM"]
    variables.update(environment.variables(parsed.env_file, parsed.env, os.environ))
    directory = parsed.workdir or known.directory
    if not directory.startswith("/"):
        raise SbError(f"--workdir {directory}", "not an absolute path", f"sb exec -w {os.path.abspath(directory)} …")
    umask = os.umask(0o022)
    return Target(
        arguments=shared.command(parsed),
        environment=tuple(variables.items()),
        directory=directory,
        umask=umask,
        ignored_signals=processes.ignored_signals(),
        user=parsed.user or known.wanted.user,
    )
