"""`sb apply`: bring what a sandbox changed to the host."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb import sandboxes
from rootless_sb.cli import asking, lookup, parsing
from rootless_sb.cli import options as shared
from rootless_sb.errors import Doing, SbError
from rootless_sb.review import applying, assessment, choosing, history, journal, opening, owners, roots
from rootless_sb.review.choosing import Wish
from rootless_sb.ui import changes as shown
from rootless_sb.ui import messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless_sb.cli.lookup import Known
    from rootless_sb.review.assessment import Verdict
    from rootless_sb.review.layer import LayerView
    from rootless_sb.sandboxes import Sandbox

_DESCRIPTION = """\
Bring what a sandbox changed to this machine: all of it or nothing, or the changes at and beneath some paths. What the
machine has changed meanwhile is a conflict, and then nothing is written. What would run by itself (setuid programs,
shell start-up files, git hooks, ~/.ssh …) is asked for one by one. A sandbox that runs has to be stopped first."""


# What can speak against a change, as `Verdict` calls it.
_AGAINST = ("conflict", "risk", "obstacle", "hidden")


class Judged(NamedTuple):
    """The changes of a sandbox that is held, and what speaks against each. `root`: what they are brought to."""

    root: str
    view: LayerView
    who: owners.Identity
    verdicts: list[Verdict]


def main(arguments: list[str]) -> int:
    """Apply, or with --dry-run say what would be. Raises SbError."""
    parsed = parser().parse_strictly(arguments)
    if parsed.json and not parsed.dry_run:
        raise SbError("--json", "it is for --dry-run", f"sb apply --dry-run --json {parsed.name}")
    known = lookup.find(parsed.name, lookup.places())
    wish = Wish(parsed.conflicts, parsed.allow_risky)
    paths = [_path(known, path) for path in parsed.path]
    held = hold(known, parsed.name)
    try:
        if parsed.dry_run:
            if journal.is_there(held.own):
                messages.warn(f"an apply was cut short, and not undone yet: sb apply {parsed.name}")
            _print(judge(known, held, paths), as_json=parsed.json)
            return 0
        carry_out(known, held, paths, wish, quiet=parsed.quiet)
    finally:
        held.close()
    return 0


def parser() -> parsing.Parser:
    """The options of `sb apply`."""
    options = parsing.Parser("apply", _DESCRIPTION, "sb apply build src/main.c")
    options.usage = "sb apply [OPTIONS] NAME [PATH …]"
    add = options.add_argument
    add("--dry-run", action="store_true", help="list what would be written, and what speaks against it")
    add("--json", action="store_true", help="with --dry-run: as JSON")
    add("-q", "--quiet", action="store_true", help="no messages but errors")
    shared.add_choices(options)
    add("name", metavar="NAME", help="the sandbox's name or id")
    add("path", metavar="PATH", nargs="*", help="the changes here and beneath (default: all)")
    return options


def hold(known: Known, called: str) -> Sandbox:
    """Lock a sandbox, so that nobody starts or removes it. Raises SbError: it runs, say."""
    with Doing(f"cannot open {known.directory}"):
        held = sandboxes.take(known.directory)
        if held is None:
            raise SbError(f"cannot apply {called}", sandboxes.holder(known.directory), f"sb stop {called}")
    return held


def carry_out(known: Known, held: Sandbox, paths: Sequence[bytes], wish: Wish, *, quiet: bool = False) -> None:
    """Apply the changes at some paths, all if none is given. Raises SbError."""
    if (settled := applying.settle(held.own)) and not quiet:
        messages.say(f"an earlier apply was cut short: it is {settled} now")
    judged = judge(known, held, paths)
    try:
        chosen = choosing.choose(judged.verdicts, wish, _ask if os.isatty(0) and os.isatty(2) else None)
    except choosing.RefusedError as refused:
        for line in refused.details:
            messages.say(line)
        raise
    if chosen:
        applying.apply(held.own, judged.view, judged.root, chosen, judged.who)
    if not quiet:
        left_out = len(judged.verdicts) - len(chosen)
        rest = f"; {left_out} left out" if left_out else ""
        messages.say(
            f"applied: {shown.summary([each.change for each in chosen])}{rest}"
            if judged.verdicts
            else "nothing has changed"
        )


def judge(known: Known, held: Sandbox, paths: Sequence[bytes]) -> Judged:
    """The changes at some paths, all if none is given, and what speaks against each. Raises SbError."""
    root = roots.target(known.state)
    view = opening.view(known.state, known.directory)
    who = owners.identity(opening.config_of(known.state), os.geteuid(), os.getegid(), frozenset(os.getgroups()))
    with Doing(f"cannot look at what {known.state.name or known.state.identifier} changed"):
        found = choosing.at_paths(view.changes(), paths)
        created = known.state.created * 1_000_000_000
        return Judged(root, view, who, assessment.assess(view, found, who, history.read(held.own), created))


def _path(known: Known, given: str) -> bytes:
    """A path as the sandbox has it: absolute, and on this machine's own view through no symbolic link but its own last
    name. In another root, where this machine's links mean nothing, a relative one begins as it does for `sb cp`.
    """
    if roots.is_whole(known.state):
        return os.fsencode(os.path.normpath(os.path.join(known.state.directory, given)))
    path = shared.absolute(given)
    above, name = os.path.split(path)
    return os.fsencode(os.path.join(os.path.realpath(above), name) if name else above)


def _ask(verdict: Verdict) -> bool:
    """Ask whoever sits at the terminal about a risky change."""
    return asking.confirmed(f"{shown.line(verdict.change)}: {verdict.risk}. Apply it?")


def _print(judged: Judged, *, as_json: bool) -> None:
    """Each change, and what speaks against it."""
    if as_json:
        import json

        listed = [
            {**shown.facts(each.change), **{name: getattr(each, name) or None for name in _AGAINST}}
            for each in judged.verdicts
        ]
        sys.stdout.write(json.dumps(shown.document("changes", listed), indent=2) + "\n")
        return
    for each in judged.verdicts:
        against = [f"{name}: {why}" for name in _AGAINST if (why := getattr(each, name))]
        sys.stdout.write(shown.line(each.change) + (f"  ({'; '.join(against)})" if against else "") + "\n")
