"""`sb start`: run a sandbox that was kept again, over the layer that it has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError
from rootless_sb.state import EXITED, LOST

if TYPE_CHECKING:
    from rootless_sb.cli.lookup import Known
    from rootless_sb.cli.parsing import Parser
    from rootless_sb.kernel.descriptors import Descriptor
    from rootless_sb.program import Target
    from rootless_sb.status_stream import StatusStream


def main(arguments: list[str]) -> int:
    """Run the command line after `sb start`; returns the exit status. Raises SbError."""
    from rootless_sb.cli import lookup, options
    from rootless_sb.kernel import descriptors, processes
    from rootless_sb.program import Target
    from rootless_sb.status_stream import StatusStream

    parsed = parser().parse_strictly(arguments)
    known = lookup.find(parsed.name, lookup.places())
    state = known.state
    umask = os.umask(0o022)
    program = Target(
        arguments=options.command(parsed) or state.command,
        environment=state.environment,
        directory=state.directory,
        umask=umask,
        ignored_signals=processes.ignored_signals(),
        user=state.wanted.user,
    )
    attached = parsed.attach or (os.isatty(0) and os.isatty(1))
    streams = Streams(parsed.tty, parsed.interactive, not attached)
    return again(known, program, streams, descriptors.describe(), state.wanted.timeout, StatusStream(None))


class Streams(NamedTuple):
    """How the command's streams are served: a terminal or not, stdin or not, in the background or not."""

    tty: bool | None
    interactive: bool
    detach: bool


def parser() -> Parser:
    """The options of `sb start`."""
    from rootless_sb.cli import options as shared
    from rootless_sb.cli.parsing import Parser

    options = Parser("start", "Start a sandbox that was kept again, with its command or another.", "sb start build")
    options.usage = "sb start [OPTIONS] NAME [--] [COMMAND [ARG …]]"
    add = options.add_argument
    add("-a", "--attach", action="store_true", help="in the foreground (default: on a terminal)")
    shared.add_streams(options)
    add("name", metavar="NAME", help="the sandbox's name or id")
    shared.add_command(options)
    return options


def again(
    known: Known,
    program: Target,
    streams: Streams,
    caller: tuple[Descriptor, ...],
    timeout: float,
    status: StatusStream,
) -> int:
    """Run a program in a sandbox that has ended, for `timeout` seconds at most (0: for ever); returns the exit status.

    `caller`: what it has open. Start and end are told to `status`. Raises SbError: it runs, say.
    """
    from rootless_sb import background, host, overlay_server, plan, supervisor

    state = known.state
    if state.status not in (EXITED, LOST):
        name = state.name or state.identifier
        raise SbError(f"the sandbox {name} is {state.status}", hint=f"sb exec {name} COMMAND")
    wanted = state.wanted._replace(**streams._asdict(), name=state.name, keep=state.kept, timeout=timeout)
    base = None
    if state.image:
        from rootless_sb.image import basing

        base = basing.again(state.image)
    decided = plan.make_plan(wanted, host.probe(), caller, state.identifier, base)
    decided = plan.again(decided, state, known.directory, program)
    if streams.detach:
        return background.run(decided, status)
    server = overlay_server.start()
    try:
        return supervisor.run(decided, server, status)
    finally:
        server.stop()
