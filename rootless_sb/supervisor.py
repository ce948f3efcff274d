"""The process that the user waits for: starts the others, carries bytes and signals, owns the exit status."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

from rootless_sb import (
    conversation,
    ending,
    engines,
    faults,
    leftovers,
    mapping,
    phases,
    protocol,
    relay,
    sandboxes,
    state,
    status_stream,
    watcher,
)
from rootless_sb.errors import EXIT_KILLED, EXIT_TIMEOUT, Doing, SbError
from rootless_sb.kernel import channel, processes
from rootless_sb.kernel.signals import SignalPipe
from rootless_sb.limits import loose
from rootless_sb.plan import limited
from rootless_sb.ui import messages
from rootless_sb.volumes import held_repository

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_sb.background import Background
    from rootless_sb.kernel.channel import Channel
    from rootless_sb.overlay_server import OverlayServer
    from rootless_sb.plan import Plan
    from rootless_sb.prepared import Prepared
    from rootless_sb.status_stream import StatusStream

_FULL = "the sandbox couldn't write all that it wanted: its limit of disk was reached (--disk and --inodes set it)"
_ARRIVAL = 0.1  # seconds
_FLUSH = 60.0  # seconds that the server has to bring what a kept layer still lacks to the disk
_LOOK_AROUND = 1.0  # seconds between looks at the parent, where it can't be watched


def run(
    plan: Plan,
    server: OverlayServer,
    status: StatusStream,
    background: Background | None = None,
    prepared: Prepared | None = None,
) -> int:
    """Run a plan to its end and return the exit status that `sb run` ends with, told to `status` too. Raises SbError.

    `background`: whom to tell of the start and where the output goes, for a sandbox in the background; `prepared`:
    namespaces that are there already.
    """
    supervisor = Supervisor(plan, server, status, background)
    try:
        supervisor.start(prepared)
        supervisor.loop()
    finally:
        supervisor.relay.restore()
    supervisor.finish()
    phases.mark(phases.REMOVED)
    supervisor.let_go()
    supervisor.tell_what_was_withheld()
    code = supervisor.exit_status()
    status.exited(code, supervisor.reason())
    if os.environ.get("SB_TRACE", "") not in ("", "0"):
        messages.phases(phases.durations())
    return code


class Supervisor:
    """One run: its processes, its channels, and what is known of its end."""

    __slots__ = (
        "_background",
        "_ending",
        "_exceeded",
        "_failure",
        "_full",
        "_gone",
        "_hidden",
        "_init_pid",
        "_init_status",
        "_kept",
        "_lock",
        "_own",
        "_parent",
        "_parent_watch",
        "_plan",
        "_removed",
        "_server",
        "_server_ended",
        "_signals",
        "_started",
        "_status",
        "_talk",
        "_turns_status",
        "_watcher",
        "_watcher_ended",
        "_watcher_pid",
        "relay",
    )

    def __init__(
        self, plan: Plan, server: OverlayServer, status: StatusStream, background: Background | None
    ) -> None:
        self._background = background
        self._status = status
        self._plan = plan
        self._server = server
        self._signals = SignalPipe(conversation.HANDLED)
        self.relay = relay.Relay(plan.attachments)
        self._ending = ending.Ending(plan.timeout)
        self._parent = plan.parent
        self._parent_watch = processes.watch(plan.parent) if plan.parent else None
        self._watcher_pid = 0
        self._init_status: int | None = None  # the wait status of pid 1
        self._turns_status: int | None = None  # that of who had turns taken, if the sandbox was ended for it
        self._server_ended = 0  # 1: before pid 1 did
        self._exceeded = ""  # the limit that it was ended for
        self._full = False  # something wasn't written for want of room
        self._failure: SbError | None = None
        self._watcher_ended = False  # its channel's end was seen
        self._gone = False  # nothing runs in the sandbox any more
        self._removed = False
        self._hidden: list[str] = []  # what is hidden by default and was looked up
        self._kept: bool | None = None  # not decided yet
        self._own: int | None = None  # descriptor of the sandbox's directory
        self._lock: int | None = None  # holds the sandbox's lock, as the watcher's does
        self._init_pid = 0
        self._started = False

    def start(self, prepared: Prepared | None) -> None:
        """Fork the watcher, which does the rest. Raises SbError."""
        if self._plan.image:
            from rootless_sb.image import store

            store.hold(self._plan.image)  # for as long as this process lives
        self._watcher, theirs = channel.pair()
        init, init_end = channel.pair()
        self._talk = conversation.Conversation(init, self.relay)
        links = watcher.Links(theirs, self._server_link(), init_end)
        standard = self.relay.inside
        audit = _open_audit(self._plan.record.wanted.audit)
        keep = {*(link.fileno() for link in links if link is not None), *relay.opened(standard), *audit}
        if prepared is not None:
            keep |= prepared.descriptors()
        with Doing("cannot fork"):
            self._watcher_pid = processes.fork(
                lambda: watcher.watch(self._plan, links, standard, audit, prepared), keep
            )
        if prepared is not None:
            prepared.close()
        for link in links:
            if link is not None:
                link.close()
        for descriptor in audit:
            os.close(descriptor)
        relay.release(standard)
        if self._background is None:
            messages.warn_all(self._plan.warnings)
        if self._plan.greeting:
            messages.say(self._plan.greeting)

    def _server_link(self) -> Channel | None:
        """The watcher's end of the channel to the overlay server; None, and no server, if the kernel serves."""
        if self._plan.engine == engines.FUSE:
            return self._server.channel
        self._server.stop()
        self._server.channel.close()
        return None

    def loop(self) -> None:
        """Carry messages, signals and bytes until the sandbox is gone and has nothing more to say."""
        while not self._gone or (self.relay.outputs() and not self._ending.forced_by_request):
            self._act(self._ending.overdue(time.monotonic()))  # first: we may have been stopped
            pumps = self.relay.outputs() + ([] if self._gone else self.relay.inputs())
            conversation.carry(self._sources(), pumps, self._timeout())
            if self._background is not None:
                self._background.rotate()
            if self._parent and self._parent_watch is None and os.getppid() != self._parent:
                self._act(self._ending.abandoned(time.monotonic()))

    def _sources(self) -> dict[int, Callable[[], None]]:
        """What to listen to besides the pumps, and who does."""
        own: dict[int, Callable[[], None]] = {self._signals.reader: self._take_signals}
        if not self._watcher_ended:
            own[self._watcher.fileno()] = self._hear_watcher
        if not self._talk.ended:
            own[self._talk.fileno()] = self._hear_init
        background = self._background
        if background is not None and background.visitors is not None:
            own[background.visitors.fileno()] = lambda: background.welcome(self.relay.master())
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
        well = self._failure is None and self._talk.wait_status is not None and not self._server_ended
        if self._kept and well:
            self._server.wait(_FLUSH)
        self._server.look_for(0.0 if well else _ARRIVAL)
        self._server.stop()
        phases.mark(phases.GONE)
        while not self._watcher_ended:
            readable, _, _ = select.select([self._watcher.fileno(), self._signals.reader], [], [])
            if self._watcher.fileno() in readable:
                self._hear_watcher()
            elif any(ending.asks_for_an_end(number) for number in self._signals.take()):
                self._note_end()  # who can't wait leaves the rest to the watcher
                return
        os.waitpid(self._watcher_pid, 0)
        self._settle()

    def let_go(self) -> None:
        """Let others have the sandbox, if it is kept: this process may live on."""
        for descriptor in (self._own, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._own = self._lock = None

    def tell_what_was_withheld(self) -> None:
        """Name what the command has looked up and not found, because it is hidden by default, and the repository that
        it couldn't make in a volume.
        """
        plan = self._plan
        if self._hidden and not plan.quiet:
            messages.withheld("hidden", self._hidden, plan.home)
        if plan.guarded and self._talk.wait_status and not plan.quiet:
            path = held_repository(plan.record.wanted, plan.target.arguments, plan.target.directory)
            if path is not None and os.access(os.path.dirname(path), os.W_OK):
                messages.withheld("held", [path], plan.home)

    def _settle(self) -> None:
        """Remove the layer if the watcher couldn't; note how a sandbox that is kept has ended. Raises SbError."""
        if self._removed:
            with Doing("cannot remove what points to the sandbox"):
                sandboxes.forget(self._plan.identifier, self._plan.uid)  # in A the directories seem to be root's
            return
        if self._plan.guarded:
            leftovers.sweep_placeholders(self._plan.uid)
        if self._kept is None and not self._plan.existing:  # the watcher was killed, or has failed
            with Doing("cannot decide whether the sandbox is kept"):
                self._kept = self._own is not None and sandboxes.is_kept(self._own)
        if not self._kept and not self._plan.existing:
            if self._plan.engine == engines.KERNEL:
                mapping.enter(self._plan.id_maps)
            with Doing("cannot remove the sandbox's layer"):
                sandboxes.remove_wherever(self._plan.places, self._plan.identifier, self._plan.uid)
        else:
            self._note_end()

    def _note_end(self) -> None:
        """Write down how a sandbox that is kept has ended. Raises SbError."""
        if self._own is not None and (self._kept or self._plan.existing):
            faults.point("end-unnoted")
            code = self._recorded_code()
            with Doing("cannot note the sandbox's end"):
                sandboxes.update(self._own, lambda old: state.ended(old, code))

    def _recorded_code(self) -> int:
        """The exit code to write down: the command's, or 137 for one that was ended, or 125."""
        if self._ending.timed_out:
            return EXIT_TIMEOUT
        if self._talk.wait_status is not None:
            return processes.exit_code(self._talk.wait_status)
        return self._failure.status if self._failure is not None else EXIT_KILLED

    def exit_status(self) -> int:
        """What `sb run` exits with. Raises SbError when the sandbox didn't come to a proper end."""
        if self._failure is not None and not _killed(self._server.failure):
            raise self._failure
        if self._ending.timed_out and not self._server_ended:
            if not self._plan.quiet:
                messages.say(conversation.TIMED_OUT)
            return EXIT_TIMEOUT
        if self._exceeded:
            messages.say(f"the sandbox was ended: it used more than its limit of {self._exceeded}")
            return EXIT_KILLED
        if self._talk.wait_status is None or self._server_ended:
            raise SbError("the sandbox was ended", self._why_early(), "the command's exit status is not known")
        code = processes.exit_code(self._talk.wait_status)
        if self._full and not self._plan.quiet:
            messages.say(_FULL)
        return code

    def reason(self) -> str:
        """Why the command that came to an end has, in `status_stream`'s words."""
        if self._exceeded:
            return self._exceeded
        if self._full and self._talk.wait_status and not self._ending.timed_out:
            return protocol.DISK  # the command has failed: for that, as far as we know
        return status_stream.reason(self._talk.wait_status or 0, timed_out=self._ending.timed_out)

    def _why_early(self) -> str:
        if self._server.failure is not None:
            return f"its overlay server {_how(self._server.failure)}"
        if self._ending.forced_by_request:
            return "as it was asked to"
        if self._turns_status is not None:
            return f"sb-turns, which has its very many processes take turns, {_how(self._turns_status)}"
        if self._init_status is not None:
            return f"its pid 1 {_how(self._init_status)}"
        return "its watcher was killed"

    def _act(self, action: str) -> None:
        if action == ending.END_COMMAND:
            self._talk.end_command()
        elif action == ending.END_SANDBOX:
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
                self._talk.forward(number)
            else:
                self._act(ending.END_SANDBOX)

    def _lose_parent(self) -> None:
        """Whoever started sb is dead: end the sandbox."""
        if self._parent_watch is not None:
            os.close(self._parent_watch)
            self._parent_watch = None
        self._act(self._ending.abandoned(time.monotonic()))

    def _hear_watcher(self) -> None:
        data, passed = self._watcher.receive()
        if not data:
            self._watcher_ended = self._gone = True
            return
        message = protocol.decode(data)
        if message.kind == protocol.UNSHARED:
            answer = protocol.MAPPED if self._map_ids() else protocol.REFUSED
            self._watcher.try_send(protocol.encode(answer))
        elif message.kind == protocol.PLACED:
            self._own, self._lock = passed
            if self._background is not None:
                self._background.open_log(self._own)
                self._background.listen(self._own)
        elif message.kind == protocol.PHASES:
            phases.add(message.fields[0])
        elif message.kind == protocol.RUNNING:
            self._init_pid = int(message.fields[0])
            self._note_running()
        elif message.kind == protocol.HIDDEN:
            self._hidden.append(message.fields[0])
        elif message.kind == protocol.EXCEEDED and message.fields[0] == protocol.DISK:
            self._full = True
        elif message.kind == protocol.EXCEEDED:
            self._exceeded = message.fields[0]
        elif message.kind == protocol.UNTURNED:
            self._turns_status = int(message.fields[0])
        elif message.kind == protocol.GONE:
            while not self._talk.ended:  # of a short command both start and end may wait to be heard
                self._hear_init()
            self._gone = True
            self._init_status, self._server_ended, kept = map(int, message.fields)
            self._kept = bool(kept)
            phases.mark(phases.RUN)
        elif message.kind == protocol.FAILED:
            self._failure = self._failure or protocol.failure(message)
            self._server.stop()  # the watcher that failed waits for this; a server that did has ended
        elif message.kind == protocol.REMOVED:
            self._removed = True
            if not self._plan.quiet:
                messages.thrown_away(*map(int, message.fields))

    def _hear_init(self) -> None:
        kind = self._talk.hear()
        if kind == protocol.STARTED:
            self._started = True
            self._ending.command_started(time.monotonic())
            self._watcher.try_send(protocol.encode(protocol.STARTED, self._talk.started_pid))
            self._note_running()
        elif kind == protocol.EXITED:
            self._ending.command_ended(time.monotonic())
        elif kind == protocol.FAILED:
            self._failure = self._failure or self._talk.failure

    def _note_running(self) -> None:
        """Write down that the command runs, once watcher and pid 1 have both said so."""
        if self._own is None or not self._started or not self._init_pid:
            return
        faults.point("start-unnoted")
        in_force = self._plan.barriers.in_force(self._plan.namespaces)
        limits = limited(self._plan, *self._talk.limited)
        if self._background is None and not self._plan.quiet:
            messages.warn_all(loose(limits))
        with Doing("cannot note that the sandbox runs"):
            try:
                sandboxes.update(
                    self._own, lambda old: state.running(old, self._init_pid, os.getpid(), in_force, limits)
                )
            except FileNotFoundError:  # a short command: by now its sandbox has been removed
                pass
        self._status.started(self._plan.identifier, self._init_pid, in_force, phases.durations(), phases.beginning())
        if self._background is not None:
            self._background.started(self._talk.started_pid)

    def _map_ids(self) -> bool:
        """Have the helpers write the maps of A; whether both did."""
        with Doing("cannot start what maps subordinate ids"):
            helper = mapping.write_by_helpers(self._watcher_pid, self._plan.id_maps)
        if helper and not self._plan.quiet:
            messages.warn(f"{helper} refused the subordinate ids: going on with one id")
        return not helper


def _open_audit(path: str) -> tuple[int, ...]:
    """A descriptor of the file that records of the sandbox's files are added to, if one is wanted. Raises SbError."""
    if not path:
        return ()
    # Without a wait for somebody who reads, if it is a FIFO (open(2)).
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with Doing(f"cannot write records to {path}", "--audit FILE: a file that you may write to"):
        return (os.open(path, flags, 0o600),)


def _killed(wait_status: int | None) -> bool:
    """Whether a process was ended from outside: what others say of their failures comes of that."""
    return wait_status is not None and not os.WIFEXITED(wait_status)


def _how(wait_status: int) -> str:
    """How a process ended, in words."""
    if os.WIFSTOPPED(wait_status):
        return f"was stopped by {signal.Signals(os.WSTOPSIG(wait_status)).name}"
    code = os.waitstatus_to_exitcode(wait_status)
    return f"ended with status {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
