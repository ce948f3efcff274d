"""pid 1 of the sandbox: builds the root, starts the target, forwards signals, reaps, and ends with the target.

It lives in user namespace A with all its capabilities; the target, in B, can neither signal nor trace it. From
pivot_root on it imports nothing and looks up no name: whatever it would find lies in the sandbox.
"""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

from rootless_sb import protocol, relay, target
from rootless_sb.builder import Builder
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import descriptors, mounts, namespaces, processes, terminals
from rootless_sb.kernel.signals import SignalPipe

if TYPE_CHECKING:
    from rootless_sb.kernel.channel import Channel
    from rootless_sb.plan import Plan
    from rootless_sb.relay import Standard


# What a terminal sends to the whole foreground process group (termios(3), ISIG), and what wakes a stopped one.
_OF_TERMINALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCONT)


def run(plan: Plan, directory: str, supervisor: Channel, standard: Standard) -> int:
    """pid 1's life; `directory` is the sandbox's own on the host. Returns its exit status."""
    processes.die_with_parent()
    os.setsid()
    processes.set_title("sb-init")
    events = SignalPipe((signal.SIGCHLD,))
    null = descriptors.open_null()  # while /dev is the host's
    try:
        pid = _start(plan, directory, supervisor, standard, null)
    except SbError as error:
        supervisor.try_send(protocol.failed(error))
        return error.status
    descriptors.shut((0, 1, 2), null)
    relay.release(standard)
    supervisor.try_send(protocol.encode(protocol.STARTED))
    supervisor.try_send(protocol.encode(protocol.EXITED, _wait(pid, events, supervisor)))
    return 0


def _start(plan: Plan, directory: str, supervisor: Channel, standard: Standard, null: int) -> int:
    slave: int | None = None

    def terminal_opened(master: int, opened: int) -> None:
        nonlocal slave
        slave = opened
        terminals.take_controlling_terminal(opened)
        supervisor.try_send(protocol.encode(protocol.TERMINAL), (master,))
        os.close(master)

    with Doing("cannot make a mount namespace"):
        namespaces.unshare(namespaces.NEWNS)
        mounts.mount(None, "/", None, mounts.REC | mounts.PRIVATE)
    builder = Builder(f"{directory}/stage", f"{directory}/root", terminal_opened)
    for step in plan.steps:
        builder.carry_out(step)
    return target.start(plan, target.Surroundings(builder.proc, slave, null, standard))


def _wait(pid: int, events: SignalPipe, supervisor: Channel) -> int:
    """Reap whatever ends, until the target does; its wait status is returned. Signals for it come over the channel."""
    poll = select.poll()
    poll.register(events.reader, select.POLLIN)
    poll.register(supervisor.fileno(), select.POLLIN)
    while True:
        for child, wait_status in _changed_children():
            if child == pid and os.WIFSTOPPED(wait_status):
                supervisor.try_send(protocol.encode(protocol.STOPPED))
            elif child == pid:
                return wait_status
        for descriptor, _ in poll.poll():
            if descriptor == events.reader:
                events.take()
                continue
            message, _ = supervisor.receive()
            if not message:  # nobody is left to tell how it ends; the rest of this namespace ends with us
                os._exit(1)
            _forward(pid, protocol.decode(message))


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


def _forward(pid: int, message: protocol.Message) -> None:
    """Send the target a signal; one typed at a terminal goes to its whole process group, as a terminal would do it."""
    number = int(message.fields[0])
    try:
        if number in _OF_TERMINALS:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:  # it has just ended
        return
