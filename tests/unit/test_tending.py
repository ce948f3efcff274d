"""Who tends a program tells its owner of a stop by somebody's will, and of none that was for a turn of others."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from rootless_sb import protocol, tending, turns
from rootless_sb.kernel import channel, processes
from rootless_sb.kernel.signals import SignalPipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rootless_sb.kernel.channel import Channel

STOPPED = protocol.encode(protocol.STOPPED, signal.SIGSTOP)


class Turns:
    """Has a program take turns, as sb-turns does, and stops it as anybody can."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.mark = turns.new_mark()

    def begin(self) -> None:
        """From here on it is stopped, until its turn or the end."""
        self._count()
        self.stop()

    def end(self) -> None:
        """All go on."""
        os.kill(self.pid, signal.SIGCONT)
        self._count()

    def stop(self) -> None:
        """Stop it, and wait until it is."""
        os.kill(self.pid, signal.SIGSTOP)
        while not processes.is_stopped(self.pid):
            time.sleep(0.001)

    def _count(self) -> None:
        turns._set(self.mark, turns._marked(self.mark) + 1)


def over(taken: Turns) -> None:
    """The turns' end."""
    taken.end()


def over_and_begun(taken: Turns) -> None:
    """Other turns, which go on for a while."""
    taken.end()
    taken.begin()
    threading.Timer(0.1, taken.end).start()


def over_and_stopped(taken: Turns) -> None:
    """The turns' end, and a stop by somebody else right after it."""
    taken.end()
    taken.stop()


def nothing(taken: Turns) -> None:
    """The turns go on for a while."""
    threading.Timer(0.1, taken.end).start()


@pytest.fixture
def events() -> Iterator[SignalPipe]:
    """What turns readable when a child's state changes."""
    before = signal.getsignal(signal.SIGCHLD)
    pipe = SignalPipe((signal.SIGCHLD,))
    yield pipe
    os.close(signal.set_wakeup_fd(-1))
    os.close(pipe.reader)
    signal.signal(signal.SIGCHLD, before)


def told(end: Channel, pid: int, heard: list[bytes]) -> None:
    """Hear what the owner is told, and have what was stopped go on, as it does."""
    while message := end.receive()[0]:
        heard.append(message)
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("in_turns", "meanwhile", "real"),
    [
        (True, nothing, False),
        (True, over, False),
        (True, over_and_begun, False),
        (True, over_and_stopped, True),
        (False, None, True),
    ],
)
def test_only_a_stop_by_somebodys_will_is_told(
    events: SignalPipe,
    monkeypatch: pytest.MonkeyPatch,
    in_turns: bool,
    meanwhile: Callable[[Turns], None] | None,
    real: bool,
) -> None:
    """Whatever happens between the kernel's word of the stop and a look at whether turns are taken."""
    waitpid = os.waitpid
    pending = [meanwhile] if meanwhile else []

    def wait(pid: int, options: int) -> tuple[int, int]:
        changed, wait_status = waitpid(pid, options)
        if changed and os.WIFSTOPPED(wait_status) and pending:
            pending.pop()(taken)
        return changed, wait_status

    program = subprocess.Popen(["sleep", "0.5"])
    taken = Turns(program.pid)
    if in_turns:
        taken.begin()
    else:
        taken.stop()
    owner, theirs = channel.pair()
    heard: list[bytes] = []
    listener = threading.Thread(target=told, args=(theirs, program.pid, heard))
    listener.start()
    monkeypatch.setattr(os, "waitpid", wait)
    assert 0 == tending.tend(program.pid, events, owner, taken.mark)
    owner.close()
    listener.join()
    theirs.close()
    program.returncode = 0  # it has been waited for
    assert (set(heard) == {STOPPED}) if real else (heard == [])
    os.close(taken.mark)
