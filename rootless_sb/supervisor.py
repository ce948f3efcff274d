"""The process that the user waits for: starts the others, carries bytes and signals, owns the exit status."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

from rootless_sb import ending, protocol, relay, sandboxes, watcher
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import channel, processes
from rootless_sb.kernel.signals import SignalPipe
from rootless_sb.ui import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_sb.overlay_server import OverlayServer
    from rootless_sb.plan import Plan
    from rootless_sb.relay import Pump

# What can be caught and isn't about this process itself goes to the command. (A mistake of ours, SIGSEGV and the like,
# and what Python ignores, SIGPIPE and SIGXFSZ, are about us; SIGTTIN and SIGTTOU, about our place in the terminal.)
_OURS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGURG)
_MISTAKES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS, signal.SIGABRT)
_HANDLED = tuple(signal.valid_signals() - {*_OURS, *_MISTAKES})
_ARRIVAL = 0.1  # seconds
_LOOK_AROUND = 1.0  # seconds between looks at the parent, where it can't be watched


def run(plan: Plan, server: OverlayServer) -> int:
    """Run a plan to its end and return the exit status that `sb run` ends with. Raises SbError."""
    supervisor = Supervisor(plan, server)
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
        "_ending",
        "_failure",
        "_gone",
        "_init",
        "_init_ended",
        "_init_status",
        "_parent",
        "_parent_watch",
        "_plan",
        "_removed",
        "_server",
        "_server_ended",
        "_signals",
        "_wait_status",
        "_watcher",
        "_watcher_ended",
        "_watcher_pid",
        "relay",
    )

    def __init__(self, plan: Plan, server: OverlayServer) -> None:
        self._plan = plan
        self._server = server
        self._signals = SignalPipe(_HANDLED)
        self.relay = relay.Relay(plan.attachments)
        self._ending = ending.Ending()
        self._parent = plan.parent
        self._parent_watch = processes.watch(plan.parent) if plan.parent else None
        self._watcher_pid = 0
        self._wait_status: int | None = None  # the target's
        self._init_status: int | None = None  # the wait status of pid 1
        self._server_ended = 0  # 1: before pid 1 did
        self._failure: SbError | None = None
        self._init_ended = self._watcher_ended = False  # their channels' ends were seen
        self._gone = False  # nothing runs in the sandbox any more
        self._removed = False

    def start(self) -> None:
        """Fork the watcher, which does the rest. Raises SbError."""
        self._watcher, theirs = channel.pair()
        self._init, init_end = channel.pair()
        links = watcher.Links(theirs, self._server.channel, init_end)
        standard = self.relay.inside
        keep = {*(link.fileno() for link in links), *relay.opened(standard)}
        with Doing("cannot fork"):
            self._watcher_pid = processes.fork(lambda: watcher.watch(self._plan, links, standard), keep)
        for link in links:
            link.close()
        relay.release(standard)
        if self._plan.greeting:
            messages.say(self._plan.greeting)

    def loop(self) -> None:
        """Carry messages, signals and bytes until the sandbox is gone and has nothing more to say."""
        while not self._gone or (self.relay.outputs() and not self._ending.forced_by_request):
            own = self._own()
            poll = select.poll()
            for descriptor in own:
                poll.register(descriptor, select.POLLIN)
            pumps = _waiting(self.relay.outputs() + ([] if self._gone else self.relay.inputs()), poll)
            for descriptor, _ in poll.poll(self._timeout()):
                if descriptor in own:
                    own[descriptor]()
                with Doing("cannot pass on what the command reads or writes"):
                    for pump in pumps.get(descriptor, ()):
                        pump.move()
            self._act(self._ending.overdue(time.monotonic()))
            if self._parent and self._parent_watch is None and os.getppid() != self._parent:
                self._act(self._ending.abandoned(time.monotonic()))

    def _own(self) -> dict[int, Callable[[], None]]:
        """What to listen to besides the pumps, and who does."""
        own: dict[int, Callable[[], None]] = {self._signals.reader: self._take_signals}
        if not self._watcher_ended:
            own[self._watcher.fileno()] = self._hear_watcher
        if not self._init_ended:
            own[self._init.fileno()] = self._hear_init
        if self._parent_watch is not None:
            own[self._parent_watch] = self._lose_parent
        return own

    def _timeout(self) -> int | None:
        """Milliseconds until something is due."""
        patience = self._ending.patience(time.monotonic())
        if self._parent and self._parent_watch is None:
            patience = _LOOK_AROUND if patience is None else min(patience, _LOOK_AROUND)
        return None if patience is None else int(patience * 1000) + 1

    def finish(self) -> None:
        """End the server and wait for the watcher: nothing is left after this."""
        self.relay.give_back()
        # A server that was killed closes /dev/fuse before it can be waited for, so others may have told of it earlier.
        well = self._failure is None and self._wait_status is not None and not self._server_ended
        self._server.look_for(0.0 if well else _ARRIVAL)
        self._server.stop()
        while not self._watcher_ended:
            readable, _, _ = select.select([self._watcher.fileno(), self._signals.reader], [], [])
            if self._watcher.fileno() in readable:
                self._hear_watcher()
            elif any(ending.asks_for_an_end(number) for number in self._signals.take()):
                return  # who can't wait leaves the removal to the watcher
        os.waitpid(self._watcher_pid, 0)
        if not self._removed:  # the watcher was killed, or has failed
            with Doing("cannot remove the sandbox's layer"):
                sandboxes.remove_wherever(self._plan.places, self._plan.identifier, self._plan.uid)

    def exit_status(self) -> int:
        """What `sb run` exits with. Raises SbError when the sandbox didn't come to a proper end."""
        if self._failure is not None and not _killed(self._server.failure):
            raise self._failure
        if self._wait_status is None or self._server_ended:
            raise SbError("the sandbox was ended", self._why_early(), "the command's exit status is not known")
        return processes.exit_code(self._wait_status)

    def _why_early(self) -> str:
        if self._server.failure is not None:
            return f"its overlay server {_how(self._server.failure)}"
        if self._ending.forced_by_request:
            return "as it was asked to"
        if self._init_status is not None:
            return f"its pid 1 {_how(self._init_status)}"
        return "its watcher was killed"

    def _act(self, action: str) -> None:
        if action == ending.END_SANDBOX:
            self._watcher.finish()
        elif action == ending.END_SERVER:
            self._server.stop()
        elif action == ending.END_WATCHER:
            os.kill(self._watcher_pid, signal.SIGKILL)

    def _take_signals(self) -> None:
        for number in self._signals.take():
            if number == signal.SIGWINCH:
                self.relay.resize()
            elif number == signal.SIGCHLD:
                self._server.look()  # the watcher sees its end too, and ends the sandbox
            elif self._ending.signalled(number, time.monotonic()) == ending.FORWARD:
                self._init.try_send(protocol.encode(protocol.SIGNAL, number))
            else:
                self._act(ending.END_SANDBOX)

    def _lose_parent(self) -> None:
        """Whoever started sb is dead: end the sandbox."""
        if self._parent_watch is not None:
            os.close(self._parent_watch)
            self._parent_watch = None
        self._act(self._ending.abandoned(time.monotonic()))

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
            self._init_status, self._server_ended = map(int, message.fields)
        elif message.kind == protocol.FAILED:
            self._failure = self._failure or protocol.failure(message)
            self._server.stop()  # the watcher that failed waits for this; a server that did has ended
        elif message.kind == protocol.REMOVED:
            self._removed = True
            if not self._plan.quiet:
                messages.thrown_away(*map(int, message.fields))

    def _hear_init(self) -> None:
        data, descriptors = self._init.receive()
        if not data:
            self._init_ended = True
            return
        message = protocol.decode(data)
        if message.kind == protocol.TERMINAL:
            self.relay.attach_terminal(descriptors[0])
        elif message.kind == protocol.STOPPED:
            self._suspend()
        elif message.kind == protocol.EXITED:
            self._wait_status = int(message.fields[0])
            self._ending.command_ended(time.monotonic())
        elif message.kind == protocol.FAILED:
            self._failure = self._failure or protocol.failure(message)

    def _suspend(self) -> None:
        """The command was stopped: give the terminal back and stop too; later go on together."""
        self.relay.restore()
        processes.suspend()
        self.relay.make_raw()
        self._init.try_send(protocol.encode(protocol.SIGNAL, signal.SIGCONT))

    def _map_ids(self) -> bool:
        """Have newgidmap(1) and newuidmap(1) write the maps of A; whether both did.

        Groups first: while no uid is mapped, the watcher can still map the one id by itself.
        """
        maps = self._plan.id_maps
        for helper, lines in zip(reversed(maps.helpers or ()), (maps.gids, maps.uids), strict=True):
            numbers = [str(number) for line in lines for number in line]
            pid = processes.run_silently([helper, str(self._watcher_pid), *numbers])
            if processes.exit_code(os.waitpid(pid, 0)[1]) != 0:
                if not self._plan.quiet:
                    messages.warn(f"{helper} refused the subordinate ids: going on with one id")
                return False
        return True


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


def _killed(wait_status: int | None) -> bool:
    """Whether a process was ended from outside: what others say of their failures comes of that."""
    return wait_status is not None and not os.WIFEXITED(wait_status)


def _how(wait_status: int) -> str:
    """How a process ended, in words."""
    if os.WIFSTOPPED(wait_status):
        return f"was stopped by {signal.Signals(os.WSTOPSIG(wait_status)).name}"
    code = os.waitstatus_to_exitcode(wait_status)
    return f"ended with status {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
