"""`sb kill`: send the command of a running sandbox a signal."""

from __future__ import annotations

import signal

from rootless_sb import stopping
from rootless_sb.cli import each, lookup, parsing
from rootless_sb.errors import SbError, did_you_mean
from rootless_sb.state import RUNNING


def main(arguments: list[str]) -> int:
    """Send a signal to each sandbox's command; the names go to stdout. Raises SbError."""
    options = parsing.Parser("kill", "Send the command of a running sandbox a signal.", "sb kill -s HUP build")
    options.add_argument("-s", "--signal", default="KILL", metavar="SIG", help="its name or number (KILL)")
    options.add_argument("name", metavar="NAME", nargs="+", help="a sandbox's name or id")
    parsed = options.parse_strictly(arguments)
    number = signal_number(parsed.signal)

    def kill(name: str) -> None:
        known = lookup.find(name, lookup.places())
        if known.state.status != RUNNING:
            raise SbError(f"the sandbox {name} isn't running", known.state.status, f"sb start {name}")
        stopping.send(known.directory, name, number)

    return each.for_each(parsed.name, kill)


def signal_number(text: str) -> int:
    """The number of a signal by name, with or without SIG, or by number. Raises SbError. Pure."""
    known = {each.name.removeprefix("SIG"): int(each) for each in signal.Signals}
    name = text.upper().removeprefix("SIG")
    if name in known:
        return known[name]
    if text.isdecimal() and int(text) in signal.valid_signals():
        return int(text)
    raise SbError(f"unknown signal {text}", hint=did_you_mean(name, known) or "kill -l lists them")
