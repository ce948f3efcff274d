"""pid 1 of the sandbox: builds the root, starts the target, forwards signals, reaps, and ends with the target.

It lives in user namespace A with all its capabilities; the target, in B, can neither signal nor trace it. From
pivot_root on it imports nothing and looks up no name: whatever it would find lies in the sandbox.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NamedTuple

from rootless_sb import protocol, relay, session, target, tending
from rootless_sb.builder import Builder
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import descriptors, mounts, namespaces, processes, terminals
from rootless_sb.kernel.signals import SignalPipe

if TYPE_CHECKING:
    from rootless_sb.kernel.channel import Channel, Listener
    from rootless_sb.plan import Plan
    from rootless_sb.relay import Standard


class Ends(NamedTuple):
    """pid 1's connections: its channel to the supervisor, where `sb exec` connects, and the target's 0, 1 and 2."""

    supervisor: Channel
    control: Listener
    standard: Standard


def run(plan: Plan, directory: str, ends: Ends) -> int:
    """pid 1's life; `directory` is the sandbox's own on the host. Returns its exit status."""
    processes.die_with_parent()
    os.setsid()
    processes.set_title("sb-init")
    events = SignalPipe((signal.SIGCHLD,))
    supervisor = ends.supervisor
    null = descriptors.open_null()  # while /dev is the host's
    try:
        pid, lent = _start(plan, directory, ends, null)
    except SbError as error:
        supervisor.try_send(protocol.failed(error))
        return error.status
    descriptors.shut((0, 1, 2), null)
    relay.release(ends.standard)
    supervisor.try_send(protocol.encode(protocol.STARTED, pid))
    wait_status = tending.tend(pid, events, supervisor, (ends.control, lambda: _open_session(ends.control, lent)))
    if wait_status is not None:  # else nobody is left to tell; the rest of this namespace ends with us
        supervisor.try_send(protocol.encode(protocol.EXITED, wait_status))
    return 0


def _open_session(control: Listener, lent: session.Lent) -> None:
    """Fork a session for whoever has just connected."""
    connection = control.accept()
    if connection is None:
        return
    keep = {connection.fileno(), lent.devpts, lent.null, lent.inner}
    try:
        processes.fork(lambda: session.serve(connection, lent), keep)
    except OSError as error:  # no more processes, or no memory: for this one caller
        connection.try_send(protocol.failed(SbError("cannot fork", error.strerror or str(error))))
    connection.close()


def _start(plan: Plan, directory: str, ends: Ends, null: int) -> tuple[int, session.Lent]:
    """Build the root and start the target; its pid, and what sessions are lent. Raises SbError."""
    slave: int | None = None

    def terminal_opened(master: int, opened: int) -> None:
        nonlocal slave
        slave = opened
        terminals.take_controlling_terminal(opened)
        ends.supervisor.try_send(protocol.encode(protocol.TERMINAL), (master,))
        os.close(master)

    with Doing("cannot make a mount namespace"):
        namespaces.unshare(namespaces.NEWNS)
        mounts.mount(None, "/", None, mounts.REC | mounts.PRIVATE)
    builder = Builder(f"{directory}/stage", f"{directory}/root", terminal_opened)
    for step in plan.steps:
        builder.carry_out(step)
    wanted = target.NewNamespace(plan.id_maps, builder.proc)
    started = target.start(plan.target, target.Surroundings(slave, null, ends.standard, wanted))
    return started.pid, session.Lent(builder.devpts, null, started.inner, started.pid)
