"""The messages between sb's processes, and who sends which when.

Each process has one channel to the supervisor. A message is a kind and its fields, all text, joined by NUL bytes (no
path, argument or variable can hold one). The end of a channel means that the process at its other end is dead.

    supervisor (sb run)               watcher                          pid 1                     server
        |--- fork --------------------------------------------------------------------------------->|  imports pyfuse3
        |--- fork -------------------->|                                                            |
        |                              | makes the sandbox's directory, or locks one that was kept  |
        |<-------------- placed -------|  (its descriptor, and the lock's)                          |
        |                              | unshare A and the rest                                     |
        |<-------------- unshared -----|                                                            |
        | newuidmap, newgidmap         |                                                            |
        |--------------- mapped ------>|  (or `refused`: one id has to do)                          |
        |                              | mount /dev/fuse                                            |
        |                              |--- Config + fuse descriptor (SCM_RIGHTS) ----------------->|  answers INIT
        |                              |--- fork --------------------->|                            |
        |                              |  puts it into a control group, if it may                   |
        |                              |--- grouped ------------------>|                            |
        |<-------------- running ------|                               | stages /proc, /dev, ...    |
        |<---------------------------------- terminal + pty master ----|                            |
        |                                                              | attaches them to the overlay, pivot_root
        |                                                              | forks the target in B      |
        |<---------------------------------- limited, started ---------|                            |
        |--------------- started ----->|  (which counts the time limit too, should we be stopped)   |
        |----------------------------------- signal ------------------>|                            |
        |<---------------------------------- stopped ------------------|  (then `signal` SIGCONT)   |
        |<---------------------------------- exited -------------------|                            |
        |<------- hidden --------------|<---- hidden (what was looked up, at the first time) -------|
        |                              | reaps pid 1: all of its namespace is gone                  |
        |<-------------- gone ---------|  (before it `exceeded` or `unturned`, if that is why)      |
        | ends the server (SIGKILL, or waits for it when the layer is kept) ----------------------->|
        |                              | sees the server's end, removes the layer unless it is kept, exits
        |<-------------- removed ------|
        | notes how it ended, if it is kept

`sb exec` connects to pid 1, at the socket `control` in the sandbox's directory:

    client (sb exec)                  pid 1                            session
        |--- connect ---------------->|--- fork --------------------->|
        |--- exec + the request (a memfd), the descriptors of 0, 1, 2 >|
        |<---------------------------------- terminal + pty master ----|
        |                                                              | forks the command in B
        |<---------------------------------- started, ... exited ------|  as above; the client's end ends the command

`sb stop` and `sb kill` connect there too and send `signal`, which the session passes on to the sandbox's own command.

`sb attach` connects to the supervisor of a sandbox in the background, at the socket `attach`, and gets `terminal` with
the pty's master, to type into; what the command writes it reads from the log.

`failed` can come from the watcher, from pid 1 and, by way of the watcher, from the server; the sender then exits.
If the supervisor dies, the server dies with it (PR_SET_PDEATHSIG), and the watcher kills pid 1 and goes on as above.
If the watcher dies, pid 1 dies with it, and the supervisor removes the layer itself.
"""

from __future__ import annotations

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError

PLACED = "placed"
UNSHARED = "unshared"
MAPPED = "mapped"
REFUSED = "refused"  # newuidmap or newgidmap said no
PHASES = "phases"  # what the sender has noted of the time, see `phases`; before `running` and pid 1's `started`
RUNNING = "running"  # pid 1's pid, as the supervisor sees it
GROUPED = "grouped"  # the limits that a control group holds, with commas
LIMITED = "limited"  # the same, and those that pid 1 holds
TERMINAL = "terminal"
STARTED = "started"  # pid of the program, as the sender sees it
EXEC = "exec"
SIGNAL = "signal"  # number
STOPPED = "stopped"  # number of the signal that did it
EXITED = "exited"  # wait status of the target
GONE = "gone"  # wait status of pid 1; 1 if the server had ended before it, else 0; 1 if the layer is kept
HIDDEN = "hidden"  # a path that is hidden by default and was looked up
EXCEEDED = "exceeded"  # the limit for which the sandbox is being ended, or something was refused: a word below
UNTURNED = "unturned"  # wait status of `sb-turns`, for whose failure the sandbox is being ended
REMOVED = "removed"  # files, bytes of the layer that was thrown away
FAILED = "failed"  # what, why, hint, exit status

MEMORY = "memory"
DISK = "disk"

# How many fields each kind has.
_FIELDS = {
    PLACED: 0,
    UNSHARED: 0,
    MAPPED: 0,
    REFUSED: 0,
    PHASES: 1,
    RUNNING: 1,
    GROUPED: 1,
    LIMITED: 2,
    TERMINAL: 0,
    STARTED: 1,
    EXEC: 0,
    SIGNAL: 1,
    STOPPED: 1,
    EXITED: 1,
    GONE: 3,
    HIDDEN: 1,
    EXCEEDED: 1,
    UNTURNED: 1,
    REMOVED: 2,
    FAILED: 4,
}


_TEXT = 4096  # characters of each text of an error: whatever an argument's length, the message fits


class Message(NamedTuple):
    """A kind (one of the words above) and its fields."""

    kind: str
    fields: tuple[str, ...] = ()


class ProtocolError(ValueError):
    """Bytes that are no message."""


def encode(kind: str, *fields: str | int) -> bytes:
    """The bytes of a message. Raises ProtocolError for a wrong number of fields or a NUL in one."""
    texts = [str(field) for field in fields]
    if _FIELDS.get(kind) != len(texts) or any("\0" in text for text in texts):
        raise ProtocolError(f"not a message: {kind!r} with {texts!r}")
    return "\0".join((kind, *texts)).encode("utf-8", "surrogateescape")


def failed(error: SbError) -> bytes:
    """The message that carries an error to whoever reports it."""
    return encode(FAILED, *(text[:_TEXT] for text in (error.what, error.why, error.hint)), error.status)


def failure(message: Message) -> SbError:
    """The error that a `failed` message carries."""
    what, why, hint, status = message.fields
    return SbError(what, why, hint, int(status))


def decode(data: bytes) -> Message:
    """The message that `data` holds. Raises ProtocolError."""
    kind, *fields = data.decode("utf-8", "surrogateescape").split("\0")
    if _FIELDS.get(kind) != len(fields):
        raise ProtocolError(f"not a message: {data[:80]!r}")
    return Message(kind, tuple(fields))
