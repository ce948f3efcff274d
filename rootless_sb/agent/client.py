"""In `sb run`: has the agent run a command line, if there is an agent that would.

This is the process that the user waits for, so it imports next to nothing: what sockets and signals take is asked of
the modules below `socket` and `signal`, whose own import takes longer than all that is done here.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import marshal
import os
import sys

from rootless_sb.agent import place
from rootless_sb.kernel import keyrings

CHALLENGE, COLD, WARM, ENDED = b"challenge", b"cold", b"warm", b"ended"
# Descriptors that are passed at most; unix(7) says 253, SCM_MAX_FD.
_MOST = 64
_FAILED = 125
_PATIENCE = 10.0  # seconds for an agent to answer, and to say that it begins
# These are about this process itself, or not for catching. 32 and 33 are the C library's: signal(7).
_OURS = (
    *(_signal.SIGKILL, _signal.SIGSTOP, _signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU, _signal.SIGCONT),
    *(_signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGURG, _signal.SIGSEGV, _signal.SIGBUS),
    *(_signal.SIGFPE, _signal.SIGILL, _signal.SIGTRAP, _signal.SIGSYS, _signal.SIGABRT, 32, 33),
)


def run(arguments: list[str], began: tuple[int, int]) -> int | None:
    """Have the agent run `sb run ARGUMENTS`; the exit status, or None if it has to be done here."""
    if any(map(os.isatty, (0, 1, 2))):  # a terminal's job has to be looked after by somebody in its session
        return None
    name = place.name()
    directory = place.find(name)
    if directory is None:
        return None
    opened = [os.open(directory, os.O_PATH | os.O_DIRECTORY)]
    handed: list[int] = []
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    status = None
    try:
        connection.settimeout(_PATIENCE)
        connection.connect(f"/proc/self/fd/{opened[0]}/{name}")  # an address is at most 107 bytes long (unix(7))
        worker = _call(connection, arguments, began, opened, handed)
        status = _wait(connection, worker, handed) if worker is not None else None
    except OSError:  # it has just ended, say, or is stopped
        pass
    if status is None:  # a worker that might still begin dies of this (processes.die_with)
        connection.close()
        for descriptor in opened:
            os.close(descriptor)
    return status


def likeness() -> tuple[str, str, str, int, bytes]:
    """What must be alike and only a process itself can say: how its interpreter reads file names and writes text, its
    session keyring, its personality(2) (which the kernel tells only those who may stop it: Yama allows that to few).
    """
    with open("/proc/self/personality", "rb") as file:
        personality = file.read()
    stdout = sys.stdout
    return sys.getfilesystemencoding(), stdout.encoding, str(stdout.errors), keyrings.session(), personality


def _call(
    connection: _socket.socket, arguments: list[str], began: tuple[int, int], opened: list[int], handed: list[int]
) -> int | None:
    """Say who calls and what for; a pidfd of the worker, or None if there is none. Raises OSError.

    `opened` gets the descriptors that this process keeps as long as the worker is to live, `handed` the
    caller's own.
    """
    kind, _, told = connection.recv(256).partition(b" ")
    if kind != CHALLENGE:
        return None
    worker, number = map(int, told.split())
    secret = os.readlink(f"/proc/{worker}/fd/{number}")
    numbers = _descriptors(connection.fileno())
    if len(numbers) > _MOST:
        return None
    with open("/proc/self/timerslack_ns", "rb") as file:
        slack = int(file.read())
    # As worker.Call has them.
    call = (arguments, dict(os.environ), numbers, os.getppid(), slack, likeness(), began)
    memory = os.memfd_create("sb")
    os.write(memory, marshal.dumps(call))
    alive, lifeline = os.pipe()
    here = os.open(".", os.O_PATH | os.O_DIRECTORY)
    pidfd = os.pidfd_open(worker)
    opened += (lifeline, pidfd)
    handed += numbers
    rights = b"".join(each.to_bytes(4, sys.byteorder) for each in (memory, alive, here, *numbers))
    connection.sendmsg([secret.encode()], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)], _socket.MSG_NOSIGNAL)
    for each in (memory, alive, here):
        os.close(each)
    return pidfd


def _descriptors(own: int) -> list[int]:
    """What the caller has handed to this program: descriptors that Python hasn't opened for itself."""
    found = sorted(int(entry) for entry in os.listdir("/proc/self/fd"))
    return [number for number in found if number != own and _is_inherited(number)]


def _is_inherited(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:  # the descriptor by which the directory was read
        return False


def _wait(connection: _socket.socket, worker: int, handed: list[int]) -> int | None:
    """Wait until the worker says how it ended, or None if it has to be done here; from when it has begun, signals are
    passed on, and what was handed over is the worker's: who is at the other end of a pipe is to see its end.
    """
    kind, _, status = connection.recv(64).partition(b" ")
    if kind == WARM:
        connection.settimeout(None)
        for descriptor in handed:
            if descriptor > 2:
                os.close(descriptor)
        _pass_signals_on(worker)
        return _end(connection)
    return int(status) if kind == ENDED else None  # bad options, say


def _pass_signals_on(worker: int) -> None:
    def forward(number: int, frame: object) -> None:
        try:
            _signal.pidfd_send_signal(worker, number)
        except ProcessLookupError:  # its last word is on its way
            return

    for number in set(range(1, 65)) - set(_OURS):
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, forward)


def _end(connection: _socket.socket) -> int:
    kind, _, status = connection.recv(64).partition(b" ")
    if kind == ENDED:
        return int(status)
    from rootless_sb.errors import SbError
    from rootless_sb.ui import messages

    messages.report(SbError("the sandbox was ended", "its supervisor was killed", "the exit status is not known"))
    return _FAILED
