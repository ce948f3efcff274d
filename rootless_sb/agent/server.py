"""The agent: listens, forks a worker for each caller, and ends when nobody has come for a while."""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING

from rootless_sb import init
from rootless_sb.agent import place
from rootless_sb.agent.standby import Standby
from rootless_sb.cli import run
from rootless_sb.kernel import channel, descriptors, files, processes

if TYPE_CHECKING:
    from rootless_sb.kernel.channel import Listener

IDLE = 300.0  # seconds without a caller after which an agent ends; SB_AGENT_IDLE says otherwise
# After a call the next worker is made ready when the last one has ended, for who calls again and again, or so many
# seconds later: until then the processors are that one's.
_PAUSE = 0.5
_MODULES = (
    *("fuse_overlay.server", "rootless_sb.supervisor", "rootless_sb.sandboxes", "rootless_sb.settings"),
    *("rootless_sb.cli.environment", "rootless_sb.cli.defaults", "rootless_sb.cli.parsing", "rootless_sb.cli.options"),
    *("rootless_sb.host", "rootless_sb.plan", "rootless_sb.status_stream", "rootless_sb.image.basing"),
)


def main(name: str, idle: float) -> int:
    """The agent's life; `name`: of the socket, as its first caller knows it. Returns its exit status."""
    descriptors.close_others({0, 1, 2})
    os.chdir("/")
    processes.reset_signals()
    directory = place.make()
    if directory is None or name != place.name():
        return 1
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if files.lock(parent, place.lock(name), wait=False) is None:
        return 0  # another one was quicker
    for module in _MODULES:
        importlib.import_module(module)
    run.parser()  # made once a process
    init.find_out()
    gc.collect()
    gc.freeze()  # what is there by now is never looked at again, so workers share its memory
    processes.set_title("sb-agent")
    listener = channel.listen(parent, name)
    listener.identify()
    own = os.stat(name, dir_fd=parent).st_ino
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # workers are reaped by the kernel: wait(2)
    standby = Standby()
    _prepare(standby)
    while _is_called(listener, standby, idle) and _is_there(parent, name, own):
        _serve(listener, standby)
    if _is_there(parent, name, own):
        for file in (name, place.lock(name)):
            os.unlink(file, dir_fd=parent)
    return 0


def _is_called(listener: Listener, standby: Standby, idle: float) -> bool:
    """Wait for a caller, and have a worker be ready for it; False if nobody comes."""
    deadline = time.monotonic() + idle
    while (left := deadline - time.monotonic()) > 0:
        poll = select.poll()
        poll.register(listener.fileno(), select.POLLIN)
        busy = standby.busy()
        if busy is not None:
            poll.register(busy, select.POLLIN)
        found = poll.poll((left if standby.is_there else min(left, _PAUSE)) * 1000)
        if any(descriptor == listener.fileno() for descriptor, _ in found):
            return True
        _prepare(standby)
    return False


def _prepare(standby: Standby) -> None:
    try:
        standby.prepare()
    except OSError:  # no more descriptors, processes or memory: later, then
        return


def _is_there(parent: int, name: str, inode: int) -> bool:
    """Whether this agent can still be found."""
    try:
        return os.stat(name, dir_fd=parent).st_ino == inode
    except FileNotFoundError:
        return False


def _serve(listener: Listener, standby: Standby) -> None:
    try:
        connection = listener.accept()
        if connection is not None:
            standby.serve(connection)
            connection.close()
    except OSError:  # no more descriptors, processes or memory: the caller sees the connection's end
        return


if __name__ == "__main__":
    os._exit(main(sys.argv[1], float(os.environ.get("SB_AGENT_IDLE") or IDLE)))
