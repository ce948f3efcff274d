"""pid 1 of the sandbox: builds the root, starts the target, forwards signals, reaps, and ends with the target.

It lives in user namespace A; the target, in B, can neither signal nor trace it. Once the target runs it has given up
its capabilities, and what seccomp can take from it. From pivot_root on it imports nothing and looks up no name:
whatever it would find lies in the sandbox.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb import phases, protocol, relay, session, target, tending
from rootless_sb.builder import Builder
from rootless_sb.errors import Doing, SbError, failure
from rootless_sb.kernel import (
    capabilities,
    descriptors,
    landlock,
    mounts,
    namespaces,
    probes,
    processes,
    seccomp,
    terminals,
)
from rootless_sb.kernel.signals import SignalPipe
from rootless_sb.requirements import Lacking

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_sb.kernel.channel import Channel, Listener
    from rootless_sb.plan import Plan
    from rootless_sb.relay import Standard
    from rootless_sb.security.barriers import Barriers


# The namespace that pid 1 makes, not the watcher: its root is to be the sandbox's control group.
OWN = "cgroup"
# Processes in A that are counted with those in B: the watcher and pid 1.
_OURS = 2

_counted_apart = False  # whether it is known that the kernel can bound the processes of a user namespace


class Ends(NamedTuple):
    """pid 1's connections: its channel to the supervisor, that which tells of its control group, where `sb exec`
    connects, the mark of `turns`, and the target's 0, 1, 2 and so on.
    """

    supervisor: Channel
    group: Channel
    control: Listener
    mark: int
    standard: Standard


def run(plan: Plan, directory: str, ends: Ends) -> int:
    """pid 1's life; `directory` is the sandbox's own on the host. Returns its exit status."""
    processes.die_with_parent()
    os.setsid()
    processes.set_title("sb-init")
    processes.wipe_environment()
    phases.forked()
    if plan.drops_groups:
        processes.drop_groups()
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
    phases.mark(phases.COMMAND)
    supervisor.try_send(protocol.encode(protocol.PHASES, phases.own()))
    supervisor.try_send(protocol.encode(protocol.STARTED, pid))
    visitors = (ends.control, lambda: _open_session(ends.control, lent))
    wait_status = tending.tend(pid, events, supervisor, ends.mark, visitors)
    if wait_status is not None:  # else nobody is left to tell; the rest of this namespace ends with us
        supervisor.try_send(protocol.encode(protocol.EXITED, wait_status))
    return 0


def _open_session(control: Listener, lent: session.Lent) -> None:
    """Fork a session for whoever has just connected."""
    connection = control.accept()
    if connection is None:
        return
    keep = {connection.fileno(), lent.devpts, lent.null, lent.mark}
    if lent.inner is not None:
        keep |= lent.inner.opened()
    try:
        processes.fork(lambda: session.serve(connection, lent), keep)
    except OSError as error:  # no more processes, or no memory: for this one caller
        connection.try_send(protocol.failed(failure("cannot fork", error)))
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

    with Doing("cannot fork"):
        counted = probes.Trial(probes.count_processes_apart) if plan.limits.processes and not _counted_apart else None
    grouped = _enter_group(plan, ends.group)
    with Doing("cannot make a mount namespace"):
        namespaces.unshare(namespaces.NEWNS)
        mounts.mount(None, "/", None, mounts.REC | mounts.PRIVATE)
    builder = Builder(f"{directory}/stage", f"{directory}/root", terminal_opened)
    for step in plan.steps:
        builder.carry_out(step)
    phases.mark(phases.ROOT)
    barriers = plan.barriers
    _confine(barriers)
    inner = target.NewInner(plan.id_maps, builder.proc, barriers.nested) if barriers.inner else None
    around = target.Surroundings(slave, null, ends.standard, inner, barriers, plan.limits.own)
    # By now it has long been found out whether they can be limited.
    most = 0 if counted is not None and counted.failure() else plan.limits.processes
    processors = () if "cpus" in grouped else plan.limits.processors
    if processors:
        processes.bind(processors)
    own = (*(("pids",) if most else ()), *(("cpus",) if processors else ()))
    ends.supervisor.try_send(protocol.encode(protocol.LIMITED, ",".join(grouped), ",".join(own)))
    started = _start_limited(most, lambda: target.start(plan.target, around))
    _give_up_power(barriers)
    lent = session.Lent(builder.devpts, null, started.inner, barriers, plan.limits.own, started.pid, ends.mark)
    return started.pid, lent


def find_out() -> None:
    """Find out, for all that is forked from this process, what each run would else have to."""
    global _counted_apart  # noqa: PLW0603 - a fact of the kernel
    _counted_apart = not probes.attempt(probes.count_processes_apart)


def _enter_group(plan: Plan, group: Channel) -> tuple[str, ...]:
    """Wait until the watcher has put us into a control group, or can't; the limits that it holds are returned, and from
    here on it is the root of all groups. Raises SbError.
    """
    message, _ = group.receive()
    group.close()
    if OWN in plan.namespaces:
        with Lacking(OWN):
            namespaces.unshare(namespaces.KINDS[OWN])
    words = protocol.decode(message).fields[0] if message else ""
    return tuple(words.split(",")) if words else ()


def _start_limited(most: int, start: Callable[[], target.Started]) -> target.Started:
    """Start the target, which makes B, so that all in B together are bounded in number, whoever they become; 0 for any
    number. We are not: sessions must be forked though B is full. Raises SbError.
    """
    if not most:
        return start()
    with Doing("cannot limit the number of processes"):
        before = processes.limit_number(most + _OURS)
        try:
            return start()
        finally:
            processes.limit("nproc", *before)


def _confine(barriers: Barriers) -> None:
    """Enter the domain of all that will run here, before anything does: a domain can't be joined. Raises SbError."""
    if barriers.no_new_privileges:
        with Lacking("no_new_privs"):
            processes.forbid_new_privileges()
    if barriers.landlock.restricts():
        with Lacking("landlock"):
            landlock.restrict(*barriers.landlock, beneath="/")


def _give_up_power(barriers: Barriers) -> None:
    """Drop what only the building took: B's owner may join it and signal all in it without a capability. (Without B
    the target has our uid, and it is our capabilities that keep it from tracing us.) Raises SbError.
    """
    if barriers.inner:
        with Doing("cannot drop capabilities"):
            capabilities.drop_all()
    if barriers.own_program:
        with Lacking("seccomp"):
            seccomp.install(barriers.own_program)
