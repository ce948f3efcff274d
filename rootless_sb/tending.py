"""Tends one program that runs: forwards signals to it, says when it stops, reaps, and returns with its end.

For pid 1 and its target, and for a session and its command alike.
"""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

from rootless_sb import protocol, turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_sb.kernel.channel import Channel, Listener
    from rootless_sb.kernel.signals import SignalPipe

# What a terminal sends to the whole foreground process group (termios(3), ISIG), and what wakes a stopped one.
_OF_TERMINALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCONT)


def tend(
    pid: int, events: SignalPipe, owner: Channel, mark: int, visitors: tuple[Listener, Callable[[], None]] | None = None
) -> int | None:
    """Tend the child `pid` until it ends; its wait status is returned, or None if its owner's end came first.

    `events` must turn SIGCHLD readable. Signals come from the owner. `mark`: whether turns are
    being taken, `turns.new_mark`. `visitors`: where else somebody may connect, and what to do then.
    """
    poll = select.poll()
    poll.register(events.reader, select.POLLIN)
    poll.register(owner.fileno(), select.POLLIN)
    if visitors is not None:
        poll.register(visitors[0].fileno(), select.POLLIN)
    while True:
        for child, wait_status in _changed_children():
            if child == pid and os.WIFSTOPPED(wait_status):
                number = os.WSTOPSIG(wait_status)
                if number != signal.SIGSTOP or turns.was_stopped(pid, mark):
                    owner.try_send(protocol.encode(protocol.STOPPED, number))
            elif child == pid:
                return wait_status
        for descriptor, _ in poll.poll():
            if descriptor == events.reader:
                events.take()
            elif descriptor == owner.fileno():
                message, _ = owner.receive()
                if not message:
                    return None
                forward(pid, protocol.decode(message))
            elif visitors is not None:
                visitors[1]()


def _changed_children() -> list[tuple[int, int]]:
    """The pids and wait statuses of all children that have ended, which reaps them, or have stopped."""
    changed: list[tuple[int, int]] = []
    while True:
        try:
            pid, wait_status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:  # none is left
            return changed
        if pid == 0:
            return changed
        changed.append((pid, wait_status))


def forward(pid: int, message: protocol.Message) -> None:
    """Send the program the signal of a `signal` message; one typed at a terminal goes to its whole process group."""
    number = int(message.fields[0])
    try:
        if number in _OF_TERMINALS:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:  # it has just ended
        return
