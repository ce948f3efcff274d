"""What the agent forks for each caller: makes sure who it is, becomes like them, and is `sb run` from there on."""

from __future__ import annotations

import marshal
import os
import signal
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb import phases
from rootless_sb.agent import adoption, callers, client
from rootless_sb.cli import __main__, run
from rootless_sb.kernel import channel, descriptors, processes

if TYPE_CHECKING:
    from rootless_sb.kernel.channel import Channel
    from rootless_sb.prepared import Prepared

_PATIENCE = 10  # seconds for a caller to answer


class Call(NamedTuple):
    """What the caller tells of itself; the rest is asked of the kernel. `numbers`: those of the descriptors that come
    along; `parent`: the process that called; `timer_slack`: in nanoseconds; `likeness`: see `client`; `began`: when
    `sb run` began and how much of the processor's time its interpreter had taken by then, in nanoseconds.
    """

    arguments: list[str]
    environment: dict[str, str]
    numbers: list[int]
    parent: int
    timer_slack: int
    likeness: tuple[str, str, str, int, bytes]
    began: tuple[int, int]


class ColdError(Exception):
    """The caller has to do it by itself."""


def serve(peer: Channel, others: tuple[Channel, ...], prepared: Prepared | None = None) -> int:
    """A worker's life. Returns its exit status. `others`: channels that stay open until then."""
    processes.set_title("sb-run")
    os.setsid()  # a process group of its own too, for `processes.suspend`
    try:
        own = (peer, *others, *((prepared,) if prepared is not None else ()))
        call = _take(peer, own)
        status = __main__.finish(lambda: run.main(call.arguments, Accepted(peer, call, prepared)))
    except (ColdError, OSError):
        peer.try_send(client.COLD)
        return 0
    peer.try_send(b"%s %d" % (client.ENDED, status))
    return 0


class Accepted:
    """The caller as `sb run` sees it: whose child it would be, whom to tell that it goes on here, and what is there."""

    __slots__ = ("_peer", "parent", "prepared")

    def __init__(self, peer: Channel, call: Call, prepared: Prepared | None) -> None:
        self._peer = peer
        self.parent = call.parent
        self.prepared = prepared

    def agree(self, *, wanted: bool) -> None:
        """Tell the caller that this process runs the command, if an agent is wanted. Raises ColdError."""
        if not wanted:
            raise ColdError
        self._peer.try_send(client.WARM)


def _take(peer: Channel, own: tuple[Channel | Prepared, ...]) -> Call:
    """Take a call from whoever may do what this process may, and become like them: their descriptors have the numbers
    that they have there, so our `own` get others. Raises ColdError and OSError.

    The caller is the process that sends the call: the kernel adds its pid (SCM_CREDENTIALS, unix(7)), and the process
    of that pid is the same one from before the challenge until after the looks at it, since it is alive all the time.
    That it knows the secret shows that the kernel lets it look into this process (PTRACE_MODE_READ, ptrace(2)), which
    it doesn't where Landlock or another security module has taken from the caller what we have.
    """
    pid = peer.peer()
    pidfd = os.pidfd_open(pid)
    secret = f"sb-{os.urandom(16).hex()}"
    challenge = os.memfd_create(secret)
    peer.send(b"%s %d %d" % (client.CHALLENGE, os.getpid(), challenge))
    signal.alarm(_PATIENCE)  # kills
    message, sender, passed = peer.receive_from()
    signal.alarm(0)
    if sender != pid or os.fsdecode(message) != os.readlink(f"/proc/self/fd/{challenge}") or len(passed) < 3:
        raise ColdError
    caller = callers.look(sender)
    if callers.difference(callers.look("self"), caller) or processes.has_ended(pidfd):
        raise ColdError
    for descriptor in (pidfd, challenge):
        os.close(descriptor)
    memory, alive, directory, *numbered = passed
    call = Call(*marshal.loads(channel.read_all(memory)))
    if call.likeness != client.likeness() or len(numbered) != len(call.numbers):
        raise ColdError
    highest = max((*call.numbers, *passed))
    for each in own:
        each.move_above(highest)
    processes.die_with(descriptors.move_above(alive, highest))
    adoption.adopt(sender, caller, call, directory, numbered)
    phases.begin(*call.began)
    phases.mark(phases.AGENT)
    return call
