"""One `sb exec` inside the sandbox: a child of pid 1 with a session of its own that starts one command and tends it.

It is behind every barrier that pid 1 is behind, and like pid 1 it imports nothing and looks up no name.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb import protocol, request, target, tending
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import processes, terminals
from rootless_sb.kernel.signals import SignalPipe

if TYPE_CHECKING:
    from rootless_sb.kernel.channel import Channel
    from rootless_sb.limits import Limit
    from rootless_sb.security.barriers import Barriers


class Lent(NamedTuple):
    """What pid 1 lends: descriptors of its devpts' root and /dev/null, user namespace B if there is one; the barriers
    that the sandbox stands behind, and the limits of each process; the target's pid; the mark of `turns`.
    """

    devpts: int
    null: int
    inner: target.Inner | None
    barriers: Barriers
    limits: tuple[Limit, ...]
    target: int
    mark: int


def serve(client: Channel, lent: Lent) -> int:
    """The session's life: one command for one client. Returns its exit status."""
    processes.die_with_parent()
    os.setsid()
    processes.set_name("sb-session")
    events = SignalPipe((signal.SIGCHLD,))
    try:
        message, passed = client.receive()
        first = protocol.decode(message) if message else None
        if first is None or first.kind == protocol.SIGNAL:
            if first is not None:
                tending.forward(lent.target, first)
            return 0
        pid = _start(passed, client, lent)
    except SbError as error:
        client.try_send(protocol.failed(error))
        return error.status
    client.try_send(protocol.encode(protocol.STARTED, pid))
    wait_status = tending.tend(pid, events, client, lent.mark)
    if wait_status is None:  # the client is gone, and the command goes with it
        os.killpg(pid, signal.SIGKILL)
        return 0
    client.try_send(protocol.encode(protocol.EXITED, wait_status))
    return 0


def _start(passed: list[int], client: Channel, lent: Lent) -> int:
    """Start the command of the request that came with these descriptors; the pid is returned. Raises SbError."""
    if not passed:
        raise SbError("cannot run the command", "there was no request")
    with open(passed[0], "rb") as file:
        wanted = request.unpack(file.read())
    standard = {
        number: each if each is None or each < 0 else passed[1 + each] for number, each in wanted.standard.items()
    }
    slave = _open_terminal(client, lent) if None in standard.values() else None
    around = target.Surroundings(slave, lent.null, standard, lent.inner, lent.barriers, lent.limits)
    started = target.start(wanted.target, around)
    for descriptor in (*passed[1:], *((slave,) if slave is not None else ())):
        os.close(descriptor)
    return started.pid


def _open_terminal(client: Channel, lent: Lent) -> int:
    """Make a pty the session's terminal and hand its master to the client; the slave is returned. Raises SbError."""
    with Doing("cannot open a terminal in the sandbox"):
        master, slave = terminals.open_pty(lent.devpts)
        terminals.take_controlling_terminal(slave)
    client.try_send(protocol.encode(protocol.TERMINAL), (master,))
    os.close(master)
    return slave
