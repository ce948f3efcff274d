"""Attack: typing into the caller's terminal. Barriers: a pty and a session of the sandbox's own, seccomp."""

from __future__ import annotations

import os
import pty
import select
import termios
from typing import TYPE_CHECKING

from rootless_sb.security.system_calls import machine
from tests.sandbox.barriers.attackers import program
from tests.sandbox.running import SB, start_on_terminal

if TYPE_CHECKING:
    from tests.sandbox.barriers.attackers import Attacker
    from tests.sandbox.running import Sandboxes

KNOWN = machine(os.uname().machine)
assert KNOWN is not None
IOCTL = KNOWN.numbers["ioctl"]

# Types an x into whatever terminal can be reached, the request's high bits set the second time; TIOCLINUX's
# subcode 2 pastes into a console.
TYPE = f"""
    for request in (0x5412, 0xdead << 32 | 0x5412, 0x541C):
        for descriptor in (0, 1, 2):
            print(outcome(call, {IOCTL}, descriptor, request, b"x"))
    """
OPEN = "print(outcome(os.open, '/dev/tty', os.O_RDWR))"


def on_terminal(sb: Sandboxes, arguments: list[str]) -> tuple[list[str], bytes]:
    """Run a command whose three streams are a terminal that is its session's; what it printed, and what was typed."""
    master, slave = pty.openpty()
    modes = termios.tcgetattr(slave)
    modes[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(slave, termios.TCSANOW, modes)
    process = start_on_terminal(sb, slave, arguments)
    printed = b""
    while process.poll() is None:
        printed += drain(master)
    printed += drain(master)
    os.set_blocking(slave, False)
    try:
        typed = os.read(slave, 100)
    except BlockingIOError:
        typed = b""
    os.close(master)
    os.close(slave)
    return printed.decode().split(), typed


def drain(master: int) -> bytes:
    """What comes out of a terminal within a moment."""
    ready, _, _ = select.select([master], [], [], 0.1)
    return os.read(master, 65536) if ready else b""


def test_typing(attacker: Attacker) -> None:
    """TIOCSTI, with any high bits, and TIOCLINUX are EPERM, of every descriptor; other requests are answered."""
    assert ["EPERM"] * 9 == attacker(TYPE)
    assert ["ENOTTY"] == attacker(f"print(outcome(call, {IOCTL}, 0, 0xdead << 32 | 0x5413, bytes(8)))")  # TIOCGWINSZ


def test_the_callers_terminal(sb: Sandboxes) -> None:
    """From inside nothing is typed into the terminal that sb was called on; from outside it is, where allowed."""
    quiet = [str(SB), "run", "-q", "--", *program(TYPE)]
    words, typed = on_terminal(sb, quiet)
    assert (["EPERM"] * 9, b"") == (words, typed)
    words, typed = on_terminal(sb, [str(SB), "run", "-q", "--seccomp=unconfined", "--", *program(TYPE)])
    assert b"" == typed, "with the filter gone, the sandbox's own pty still stands between"
    assert "EPERM" not in words
    words, typed = on_terminal(sb, program(TYPE))
    assert (b"" if "EIO" in words or "EPERM" in words[:3] else b"xxxxxx") == typed  # EIO: dev.tty.legacy_tiocsti is 0


def test_dev_tty(attacker: Attacker) -> None:
    """/dev/tty, without a terminal, is no terminal: not the caller's either."""
    assert ["ENXIO"] == attacker(OPEN)


def test_dev_tty_is_the_sandboxs(sb: Sandboxes) -> None:
    """On a terminal, /dev/tty inside is the sandbox's pty and not the caller's terminal; outside it is the caller's."""
    look = "import os; print(os.ttyname(os.open('/dev/tty', os.O_RDWR)), os.ttyname(0), os.fstat(0).st_dev)"
    inside, _ = on_terminal(sb, [str(SB), "run", "-q", "--", *program(look)])
    own, _ = on_terminal(sb, program(look))
    assert "/dev/pts/0" == inside[1]
    assert inside[2] != own[2]
