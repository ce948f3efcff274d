"""The agent: listens, forks a worker for each caller, and ends when nobody has come for a while."""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import sys
from typing import TYPE_CHECKING

from rootless_sb import init
from rootless_sb.agent import place, worker
from rootless_sb.cli import run
from rootless_sb.kernel import channel, descriptors, files, processes

if TYPE_CHECKING:
    from rootless_sb.kernel.channel import Listener

IDLE = 300.0  # seconds without a caller after which an agent ends; SB_AGENT_IDLE says otherwise
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
    while _is_called(listener, idle) and _is_there(parent, name, own):
        _fork(listener)
    if _is_there(parent, name, own):
        for file in (name, place.lock(name)):
            os.unlink(file, dir_fd=parent)
    return 0


def _is_called(listener: Listener, idle: float) -> bool:
    """Wait for a caller, reaping workers meanwhile; False if nobody comes."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # they are reaped by the kernel: wait(2)
    poll = select.poll()
    poll.register(listener.fileno(), select.POLLIN)
    return bool(poll.poll(idle * 1000))


def _is_there(parent: int, name: str, inode: int) -> bool:
    """Whether this agent can still be found."""
    try:
        return os.stat(name, dir_fd=parent).st_ino == inode
    except FileNotFoundError:
        return False


def _fork(listener: Listener) -> None:
    try:
        connection = listener.accept()
        if connection is not None:
            processes.fork(lambda: worker.serve(connection), {connection.fileno()})
            connection.close()
    except OSError:  # no more descriptors, processes or memory: the caller sees the connection's end
        return


if __name__ == "__main__":
    os._exit(main(sys.argv[1], float(os.environ.get("SB_AGENT_IDLE") or IDLE)))
