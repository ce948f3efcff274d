"""The process that the user waits for: starts the others, carries bytes and signals, owns the exit status."""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

from rootless_sb import protocol, relay, sandboxes, watcher
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import channel, processes
from rootless_sb.kernel.signals import SignalPipe
from rootless_sb.plan import with_layer
from rootless_sb.ui import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_sb.overlay_server import OverlayServer
    from rootless_sb.plan import Plan
    from rootless_sb.relay import Pump
    from rootless_sb.sandboxes import Sandbox

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_PATIENCE = 2  # so many signals that ask for an end are the end, whatever the target does with them
_HANDLED = (*_FORWARDED, signal.SIGWINCH, signal.SIGCHLD)


def run(plan: Plan, server: OverlayServer) -> int:
    """Run a plan to its end and return the exit status that `sb run` ends with. Raises SbError."""
    sandbox = sandboxes.create(plan.places, plan.identifier, plan.uid)
    supervisor = Supervisor(with_layer(plan, sandbox.directory), sandbox, server)
    try:
        supervisor.start()
        supervisor.loop()
    finally:
        supervisor.relay.restore()
    supervisor.finish()
    return supervisor.exit_status()


class Supervisor:
    """One run: its processes, its channels, and what is known of its end."""

    __slots__ = (
        "_failure",
        "_gone",
        "_init",
        "_init_ended",
        "_init_status",
        "_interruptions",
        "_plan",
        "_removed",
        "_sandbox",
        "_server",
        "_server_status",
        "_signals",
        "_wait_status",
        "_watcher",
        "_watcher_ended",
        "_watcher_pid",
        "relay",
    )

    def __init__(self, plan: Plan, sandbox: Sandbox, server: OverlayServer) -> None:
        self._plan = plan
        self._sandbox = sandbox
        self._server = server
        self._signals = SignalPipe(_HANDLED)
        self.relay = relay.Relay(plan.attachments)
        self._watcher_pid = 0
        self._wait_status: int | None = None  # the target's
        self._init_status: int | None = None  # the wait status of pid 1
        self._server_status: int | None = None
        self._failure: SbError | None = None
        self._init_ended = self._watcher_ended = False  # their channels' ends were seen
        self._gone = False  # nothing runs in the sandbox any more
        self._removed = False
        self._interruptions = 0

    def start(self) -> None:
        """Fork the watcher, which does the rest. Raises SbError."""
        self._watcher, theirs = channel.pair()
        self._init, init_end = channel.pair()
        links = watcher.Links(theirs, self._server.channel, init_end)
        standard = self.relay.inside
        keep = {*(link.fileno() for link in links), self._sandbox.parent, *relay.opened(standard)}
        with Doing("cannot fork"):
            self._watcher_pid = processes.fork(
                lambda: watcher.watch(self._plan, self._sandbox, links, standard), keep
            )
        for link in links:
            link.close()
        relay.release(standard)

    def loop(self) -> None:
        """Carry messages, signals and bytes until the sandbox is gone."""
        own: dict[int, Callable[[], None]] = {
            self._signals.reader: self._take_signals,
            self._watcher.fileno(): self._hear_watcher,
            self._init.fileno(): self._hear_init,
        }
        while not self._gone or (self.relay.outputs() and self._interruptions < _PATIENCE):
            poll = select.poll()
            for descriptor in own:
                poll.register(descriptor, select.POLLIN)
            pumps = _waiting(self.relay.outputs() + ([] if self._gone else self.relay.inputs()), poll)
            for descriptor, _ in poll.poll():
                if descriptor in own:
                    own[descriptor]()
                with Doing("cannot pass on what the command reads or writes"):
                    for pump in pumps.get(descriptor, ()):
                        pump.move()
            if self._init_ended:
                own.pop(self._init.fileno(), None)
            if self._watcher_ended:
                own.pop(self._watcher.fileno(), None)

    def finish(self) -> None:
        """End the server and wait for the watcher: nothing is left after this."""
        self.relay.give_back()
        self._server_status = self._server.wait_status
        self._server.stop()
        while not self._watcher_ended:
            self._hear_watcher()
        os.waitpid(self._watcher_pid, 0)
        if not self._removed:  # the watcher was killed
            with Doing(f"cannot remove {self._sandbox.directory}"):
                sandboxes.remove(self._sandbox)

    def exit_status(self) -> int:
        """What `sb run` exits with. Raises SbError when the sandbox didn't come to a proper end."""
        if self._failure is not None:
            raise self._failure
        if self._wait_status is None:
            raise SbError("the sandbox ended early", self._why_early(), "the command's exit status is not known")
        return processes.exit_code(self._wait_status)

    def _why_early(self) -> str:
        if self._server_status is not None:
            return f"its overlay server {_ending(self._server_status)}"
        if self._init_status is not None:
            return f"its pid 1 {_ending(self._init_status)}"
        return "its watcher was killed"

    def _take_signals(self) -> None:
        for number in self._signals.take():
            if number == signal.SIGWINCH:
                self.relay.resize()
            elif number == signal.SIGCHLD:
                self._server.has_ended()  # the watcher sees it too, and ends the sandbox
            else:
                self._forward(number)

    def _forward(self, number: int) -> None:
        """Hand a signal to the target; the second one that asks for an end is the end of the sandbox."""
        if number in _ENDING:
            self._interruptions += 1
        if self._interruptions >= _PATIENCE:
            self._watcher.finish()
        else:
            self._init.try_send(protocol.encode(protocol.SIGNAL, number))

    def _hear_watcher(self) -> None:
        data, _ = self._watcher.receive()
        if not data:
            self._watcher_ended = self._gone = True
            return
        message = protocol.decode(data)
        if message.kind == protocol.UNSHARED:
            answer = protocol.MAPPED if self._map_ids() else protocol.REFUSED
            self._watcher.try_send(protocol.encode(answer))
        elif message.kind == protocol.GONE:
            self._gone = True
            self._init_status = int(message.fields[0])
        elif message.kind == protocol.FAILED:
            self._gone = True
            self._failure = self._failure or protocol.failure(message)
        elif message.kind == protocol.REMOVED:
            self._removed = True

    def _hear_init(self) -> None:
        data, descriptors = self._init.receive()
        if not data:
            self._init_ended = True
            return
        message = protocol.decode(data)
        if message.kind == protocol.TERMINAL:
            self.relay.attach_terminal(descriptors[0])
        elif message.kind == protocol.EXITED:
            self._wait_status = int(message.fields[0])
        elif message.kind == protocol.FAILED:
            self._failure = self._failure or protocol.failure(message)

    def _map_ids(self) -> bool:
        """Have newuidmap(1) and newgidmap(1) write the maps of A; whether both did."""
        pids = []
        maps = self._plan.id_maps
        for helper, lines in zip(maps.helpers or (), (maps.uids, maps.gids), strict=True):
            numbers = [str(number) for line in lines for number in line]
            pids.append(processes.run([helper, str(self._watcher_pid), *numbers]))
        endings = [processes.exit_code(os.waitpid(pid, 0)[1]) for pid in pids]
        mapped = not any(endings)
        if not mapped:
            messages.warn("subordinate ids are granted but could not be mapped: going on with one id")
        return mapped


def _waiting(pumps: list[Pump], poll: select.poll) -> dict[int, list[Pump]]:
    """Have `poll` wait for what the pumps wait for; returns the pumps by descriptor."""
    waiting: dict[int, list[Pump]] = {}
    events: dict[int, int] = {}
    for pump in pumps:
        descriptor, event = pump.interest()
        waiting.setdefault(descriptor, []).append(pump)
        events[descriptor] = events.get(descriptor, 0) | event
        poll.register(descriptor, events[descriptor])
    return waiting


def _ending(wait_status: int) -> str:
    """How a process ended, in words."""
    code = os.waitstatus_to_exitcode(wait_status)
    return f"ended with status {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
