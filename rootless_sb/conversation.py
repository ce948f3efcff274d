"""The caller's side of one command, of `sb run` or `sb exec`: its signals, its terminal, its bytes, its end.

At the other end of the channel is pid 1, for `sb run`, or a session, for `sb exec`.
"""

from __future__ import annotations

import select
import signal
from typing import TYPE_CHECKING

from rootless_sb import ending, phases, protocol
from rootless_sb.errors import Doing
from rootless_sb.kernel import processes, terminals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rootless_sb.errors import SbError
    from rootless_sb.kernel.channel import Channel
    from rootless_sb.relay import Pump, Relay

# What can be caught and isn't about this process itself goes to the command. (A mistake of ours, SIGSEGV and the like,
# and what Python ignores, SIGPIPE and SIGXFSZ, are about us; SIGTTIN and SIGTTOU, about our place in the terminal.)
_OURS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGURG)
_MISTAKES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS, signal.SIGABRT)
TIMED_OUT = "the command was ended: its time limit has passed"
HANDLED = tuple(signal.valid_signals() - {*_OURS, *_MISTAKES})


class Conversation:
    """The channel to who tends the command, and what was heard there."""

    __slots__ = ("_channel", "_relay", "ended", "failure", "limited", "started_pid", "wait_status")

    def __init__(self, channel: Channel, relay: Relay) -> None:
        self._channel = channel
        self._relay = relay
        self.ended = False  # the channel's end was seen
        self.started_pid = 0  # the command's in the sandbox, once it runs
        self.wait_status: int | None = None  # the command's
        self.failure: SbError | None = None
        # The limits that are held by a control group, and by pid 1.
        self.limited: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._channel.fileno()

    def hear(self) -> str:
        """Take one message and act on it; its kind is returned, empty for the channel's end."""
        data, descriptors = self._channel.receive()
        if not data:
            self.ended = True
            return ""
        message = protocol.decode(data)
        if message.kind == protocol.TERMINAL:
            self._relay.attach_terminal(descriptors[0])
        elif message.kind == protocol.STOPPED:
            self._stopped(int(message.fields[0]))
        elif message.kind == protocol.PHASES:
            phases.add(message.fields[0])
        elif message.kind == protocol.STARTED:
            self.started_pid = int(message.fields[0])
        elif message.kind == protocol.LIMITED:
            self.limited = (tuple(message.fields[0].split(",")), tuple(message.fields[1].split(",")))
        elif message.kind == protocol.EXITED:
            self.wait_status = int(message.fields[0])
        elif message.kind == protocol.FAILED:
            self.failure = self.failure or protocol.failure(message)
        return message.kind

    def forward(self, number: int) -> None:
        """Have the command get a signal."""
        self._channel.try_send(protocol.encode(protocol.SIGNAL, number))

    def end_command(self) -> None:
        """Ask the command to end; one that is stopped must go on to hear of it."""
        self.forward(signal.SIGTERM)
        self.forward(signal.SIGCONT)

    def finish(self) -> None:
        """Let go of the command, which ends one of `sb exec`."""
        self._channel.finish()

    def _stopped(self, number: int) -> None:
        action = ending.when_stopped(number, foreground=terminals.in_foreground())
        if action == ending.SUSPEND:
            self._suspend()
        elif action == ending.CONTINUE:
            self.forward(signal.SIGCONT)

    def _suspend(self) -> None:
        """Give the terminal back and stop too; later go on together."""
        self._relay.restore()
        processes.suspend()
        self._relay.make_raw()
        self.forward(signal.SIGCONT)


def carry(sources: Mapping[int, Callable[[], object]], pumps: Sequence[Pump], timeout: int | None) -> bool:
    """Wait until something happens, for `timeout` milliseconds at most, and act on it; whether something did.

    `sources`: what to listen to besides the pumps, and who does. Raises SbError.
    """
    poll = select.poll()
    for descriptor in sources:
        poll.register(descriptor, select.POLLIN)
    waiting = _register(pumps, poll)
    happened = poll.poll(timeout)
    for descriptor, _ in happened:
        if descriptor in sources:
            sources[descriptor]()
        with Doing("cannot pass on what the command reads or writes"):
            for pump in waiting.get(descriptor, ()):
                pump.move()
    return bool(happened)


def _register(pumps: Sequence[Pump], poll: select.poll) -> dict[int, list[Pump]]:
    """Have `poll` wait for what the pumps wait for; returns the pumps by descriptor."""
    waiting: dict[int, list[Pump]] = {}
    events: dict[int, int] = {}
    for pump in pumps:
        descriptor, event = pump.interest()
        waiting.setdefault(descriptor, []).append(pump)
        events[descriptor] = events.get(descriptor, 0) | event
        poll.register(descriptor, events[descriptor])
    return waiting
