"""`sb exec`'s side of one more command in a running sandbox."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from rootless_sb import conversation, ending, protocol, relay, request, status_stream
from rootless_sb.errors import EXIT_TIMEOUT, Doing, SbError
from rootless_sb.kernel import channel, processes
from rootless_sb.kernel.signals import SignalPipe
from rootless_sb.ui import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_sb.program import Target
    from rootless_sb.stdio import Attachment

# Milliseconds of silence after which what others still hold open of the command's stdout is left to them.
_SILENCE = 100


def connect(directory: int) -> channel.Channel:
    """Connect to pid 1 of the sandbox with this directory (a descriptor). Raises SbError: it has ended, say."""
    try:
        return channel.connect(directory, "control")
    except (ConnectionRefusedError, FileNotFoundError):
        raise SbError("cannot reach the sandbox", "it has just ended", "sb ps -a") from None


def run(
    directory: int,
    wanted: Target,
    attachments: tuple[Attachment, ...],
    timeout: float,
    started: Callable[[int], None],
) -> tuple[int, str]:
    """Run a command in the sandbox with this directory (a descriptor), to its end; the exit status, and why it ended in
    `status_stream`'s words. Raises SbError.

    `timeout`: seconds that it may run, 0 for ever. `started` is called with its pid in the sandbox once it runs.
    """
    connection = connect(directory)
    with_relay = relay.Relay(attachments)
    _ask(connection, wanted, with_relay.inside)
    relay.release(with_relay.inside)
    execution = Execution(connection, with_relay, timeout, started)
    try:
        execution.loop()
    finally:
        with_relay.restore()
    with_relay.give_back()
    return execution.exit_status(), execution.reason()


def _ask(connection: channel.Channel, wanted: Target, standard: relay.Standard) -> None:
    """Send the request, in a file without a name since it may be of any length. Raises SbError."""
    passed = sorted({each for each in standard.values() if each is not None and each >= 0})
    places = {
        number: each if each is None or each < 0 else passed.index(each) for number, each in standard.items()
    }
    with Doing("cannot pass the command on"):
        memory = os.memfd_create("sb-request", os.MFD_CLOEXEC)
        with open(memory, "wb", closefd=False) as file:
            file.write(request.pack(request.Request(wanted, places)))
        os.lseek(memory, 0, os.SEEK_SET)
        connection.send(protocol.encode(protocol.EXEC), (memory, *passed))
        os.close(memory)


class Execution:
    """One command: carries its bytes and signals until it has ended."""

    __slots__ = ("_ending", "_relay", "_signals", "_started", "_talk")

    def __init__(
        self, connection: channel.Channel, with_relay: relay.Relay, timeout: float, started: Callable[[int], None]
    ) -> None:
        self._started = started
        self._talk = conversation.Conversation(connection, with_relay)
        self._relay = with_relay
        self._signals = SignalPipe(conversation.HANDLED)
        self._ending = ending.Ending(timeout)

    def loop(self) -> None:
        """Carry on until the command has ended and has nothing more to say."""
        sources = {self._signals.reader: self._take_signals, self._talk.fileno(): self._hear}
        while not self._talk.ended:
            self._act(self._ending.overdue(time.monotonic()))
            patience = self._ending.patience(time.monotonic())
            timeout = None if patience is None else int(patience * 1000) + 1
            conversation.carry(sources, self._relay.outputs() + self._relay.inputs(), timeout)
        while (rest := self._relay.outputs()) and conversation.carry({}, rest, _SILENCE):
            continue

    def exit_status(self) -> int:
        """What `sb exec` exits with. Raises SbError when the command didn't come to an end of its own."""
        if self._talk.failure is not None:
            raise self._talk.failure
        if self._ending.timed_out:
            messages.say(conversation.TIMED_OUT)
            return EXIT_TIMEOUT
        if self._talk.wait_status is None:
            why = "as was asked for" if self._ending.forced_by_request else "the sandbox has ended"
            raise SbError("the command was ended", why)
        return processes.exit_code(self._talk.wait_status)

    def reason(self) -> str:
        """Why the command that came to an end has, in `status_stream`'s words."""
        return status_stream.reason(self._talk.wait_status or 0, timed_out=self._ending.timed_out)

    def _hear(self) -> None:
        kind = self._talk.hear()
        if kind == protocol.STARTED:
            self._ending.command_started(time.monotonic())
            self._started(self._talk.started_pid)
        elif kind == protocol.EXITED:
            self._ending.command_ended(time.monotonic())

    def _take_signals(self) -> None:
        for number in self._signals.take():
            if number == signal.SIGWINCH:
                self._relay.resize()
            elif number != signal.SIGCHLD:
                action = self._ending.signalled(number, time.monotonic())
                if action == ending.FORWARD:
                    self._talk.forward(number)
                self._act(action)

    def _act(self, action: str) -> None:
        if action == ending.END_COMMAND:
            self._talk.end_command()
        elif action == ending.END_SANDBOX:  # for an exec, the command's end
            self._talk.finish()
