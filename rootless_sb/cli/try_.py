"""`sb try`: run a command, show what it changed, and ask what to do with it."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from rootless_sb import overlay_server
from rootless_sb.cli import run
from rootless_sb.errors import SbError

if TYPE_CHECKING:
    import argparse

    from rootless_sb.cli.parsing import Parser
    from rootless_sb.plan import Plan
    from rootless_sb.review.choosing import Wish

_DESCRIPTION = """\
Run a command in a sandbox, show what it changed, and ask: apply it to this machine, keep the sandbox, or discard it.
The exit status is the command's. Takes the options of sb run too."""

APPLY, KEEP, DISCARD = "apply", "keep", "discard"
_QUESTIONS = {APPLY: "apply it", KEEP: "keep the sandbox", DISCARD: "discard it"}
_SHOWN = 60  # lines of the tree


def main(arguments: list[str]) -> int:
    """Run the command line after `sb try`; returns the exit status. Raises SbError."""
    server = overlay_server.start()  # first of all, as `sb run` does it
    try:
        from rootless_sb.status_stream import StatusStream

        options = parser()
        parsed = run.parse(options, arguments)
        # What is set for all of sb's runs, by a configuration file say, is no answer to what is asked here.
        choice = _choice(options.parse_strictly(arguments))
        with StatusStream(parsed.status_fd) as status:
            parsed.rm = False
            decided = run.decide(parsed, run.run_spec(parsed)._replace(keep=True, detach=False))
        if decided is None:
            return 0
        if choice == APPLY and decided.record.image:
            raise SbError("--apply", "the files are an image's, not this machine's", "--keep or --discard")
        from rootless_sb import supervisor

        with status:
            code = supervisor.run(decided, server, status)
    finally:
        server.stop()
    _conclude(parsed, decided, choice, code)
    return code


def parser() -> Parser:
    """The options of `sb try`: those of `sb run`, and what is to be done in the end."""
    from rootless_sb.cli import options as shared

    options = run.parser("try", _DESCRIPTION, "sb try make install")
    options.add_argument("--apply", action="store_true", help="don't ask: apply what was changed")
    options.add_argument("--discard", action="store_true", help="don't ask: throw it away (--keep keeps it)")
    shared.add_choices(options)
    return options


def _choice(parsed: argparse.Namespace) -> str:
    """What was said about the end, empty if it is to be asked. Raises SbError."""
    given = [name for name in (APPLY, KEEP, DISCARD) if getattr(parsed, name)]
    if len(given) > 1:
        raise SbError(" and ".join(f"--{name}" for name in given), "they exclude each other", "one of them")
    if parsed.detach or parsed.rm:
        raise SbError("--detach and --rm", "they are for sb run", "sb try shows what was changed when it has ended")
    if not given and not (os.isatty(0) and os.isatty(2)):
        raise SbError("there is nobody to ask what to do with the changes", hint="--apply, --keep or --discard")
    return given[0] if given else ""


def _conclude(parsed: argparse.Namespace, decided: Plan, choice: str, code: int) -> None:
    """Show what was changed, and do with it what is wanted. Raises SbError."""
    from rootless_sb import removal
    from rootless_sb.ui import messages

    identifier = decided.identifier
    directory = f"{decided.store}/{identifier}"
    if not os.path.isdir(directory):  # the command couldn't be run
        return
    called = parsed.name or identifier
    # An empty layer needs no look at what is below it, whose imports would take longer than all the rest.
    lines = _changes(identifier) if os.listdir(f"{directory}/upper") else []
    if not lines:
        removal.remove(directory, called, decided.store, decided.uid)
        if not parsed.quiet:
            messages.say("no changes")
        return
    if not parsed.quiet or not choice:
        _show(lines, identifier)
    choice = choice or _ask(code, (KEEP, DISCARD) if decided.record.image else (APPLY, KEEP, DISCARD))
    if choice == APPLY:
        _apply(parsed, identifier, called)
    if choice == KEEP:
        if not parsed.quiet:
            messages.say(f"kept: sb diff {called}, sb apply {called}, sb rm {called}")
        return
    freed = removal.remove(directory, called, decided.store, decided.uid)
    if choice == DISCARD and not parsed.quiet:
        messages.say(f"discarded ({messages.human_size(freed.bytes)})")


def _changes(identifier: str) -> list[str]:
    """What was changed, as the lines of a tree."""
    from rootless_sb.cli import lookup
    from rootless_sb.errors import Doing
    from rootless_sb.review import opening
    from rootless_sb.ui import changes

    known = lookup.find(identifier, lookup.places())
    with Doing(f"cannot read what {identifier} changed"):
        found = opening.view(known.state, known.directory).changes()
    return [*changes.tree(found), changes.summary(found)] if found else []


def _show(lines: list[str], identifier: str) -> None:
    """Write the tree to stderr: stdout is the command's."""
    more = len(lines) - _SHOWN - 1
    shown = lines if more <= 0 else [*lines[:_SHOWN], f"… and {more} lines more: sb diff {identifier}", lines[-1]]
    sys.stderr.write("".join(f"{line}\n" for line in shown))
    sys.stderr.flush()


def _ask(code: int, choices: tuple[str, ...]) -> str:
    """Ask which of these to do; who says nothing, or ends it by a signal, keeps it."""
    # The supervisor's handlers are still there, and would only note that one came.
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _answer(code, choices)
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return KEEP
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _answer(code: int, choices: tuple[str, ...]) -> str:
    """What the terminal says; KEEP at its end. Raises KeyboardInterrupt."""
    *others, last = (_QUESTIONS[choice] for choice in choices)
    letters = "/".join(choice[0] for choice in choices)
    ended = f" (the command ended with {code})" if code else ""
    while True:
        sys.stderr.write(f"sb: {', '.join(others)}, or {last}?{ended} [{letters}] ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
        if not answer:
            return KEEP
        for choice in choices:
            if answer.strip() and choice.startswith(answer.strip().lower()):
                return choice


def _apply(parsed: argparse.Namespace, identifier: str, called: str) -> None:
    """Apply all; whatever keeps it from that, the sandbox is kept. Raises SbError."""
    from rootless_sb.cli import apply, lookup

    known = lookup.find(identifier, lookup.places())
    held = apply.hold(known, called)
    try:
        apply.carry_out(known, held, [], _wish(parsed), quiet=parsed.quiet)
    except SbError as error:
        hint = f"the changes are kept: sb apply {called}, or sb rm {called}"
        raise SbError(error.what, error.why, f"{error.hint}; {hint}" if error.hint else hint) from error
    finally:
        held.close()


def _wish(parsed: argparse.Namespace) -> Wish:
    from rootless_sb.review.choosing import Wish

    return Wish(parsed.conflicts, parsed.allow_risky)
