"""What is known of a sandbox, as a record and as the text of its state file (see `fields`). Pure."""

from __future__ import annotations

import errno
import signal

from fuse_overlay.tuples import NamedTuple
from rootless_sb import fields
from rootless_sb.limits import Held
from rootless_sb.spec import RunSpec

SCHEMA = 1

CREATED = "created"
RUNNING = "running"
EXITED = "exited"
LOST = "lost"
REMOVING = "removing"  # decided for good: it isn't kept


class StateError(OSError):
    """A text that is no state, or one of another version; the message says which.

    It is an OSError since whoever reads a state may fail in both ways, and has to say so the same way.
    """

    def __init__(self, why: str) -> None:
        super().__init__(errno.EBADMSG, why)

    def __str__(self) -> str:
        return self.strerror or ""


class State(NamedTuple):
    """A sandbox. `created` is in seconds since 1970; `pid` is pid 1's on the host and `supervisor` that
    of the process that owns the sandbox, 0 if there is none. `command`, `directory` and `environment` are the target's.
    """

    identifier: str
    name: str
    kept: bool
    status: str
    created: int
    wanted: RunSpec
    command: tuple[str, ...]
    directory: str
    environment: tuple[tuple[str, str], ...]
    pid: int = 0
    supervisor: int = 0
    exit_code: int | None = None
    barriers: tuple[str, ...] = ()  # in force since the last start
    limits: tuple[Held, ...] = ()  # so, too
    image: str = ""  # the id of the image that it runs on, if it runs on one
    stop_signal: int = signal.SIGTERM  # what `sb stop` sends

    def seen(self, *, locked: bool) -> State:
        """The state as it is now: one that says running while nobody holds its lock was lost."""
        if self.status in (CREATED, RUNNING) and not locked:
            return self._replace(status=LOST, pid=0, supervisor=0)
        return self


def running(
    old: State, pid: int, supervisor: int, barriers: tuple[str, ...], limits: tuple[Held, ...]
) -> State:
    """The state of a sandbox whose command has started, behind these barriers and within these limits."""
    started = old._replace(status=RUNNING, pid=pid, supervisor=supervisor, exit_code=None)
    return started._replace(barriers=barriers, limits=limits)


def ended(old: State, exit_code: int) -> State:
    """The state of a sandbox that has ended and is kept."""
    return old._replace(status=EXITED, pid=0, supervisor=0, exit_code=exit_code)


def encode(state: State) -> bytes:
    """The text of a state file."""
    pairs = [("schema", str(SCHEMA))]
    pairs += [(name, getattr(state, name)) for name in ("identifier", "name", "status", "directory", "image")]
    pairs += [("kept", str(int(state.kept)))]
    pairs += [(name, str(int(getattr(state, name)))) for name in ("created", "pid", "supervisor", "stop_signal")]
    if state.exit_code is not None:
        pairs.append(("exit_code", str(state.exit_code)))
    pairs += [("barrier", name) for name in state.barriers]
    pairs += [("limit", "\t".join((each.name, each.value, *each.holders))) for each in state.limits]
    pairs += [("command", word) for word in state.command]
    pairs += [("environment", f"{name}={value}") for name, value in state.environment]
    for field, value in zip(RunSpec._fields, state.wanted, strict=True):
        pairs += [(f"wanted.{field}", text) for text in _texts(value)]
    return fields.encode(pairs)


def decode(data: bytes) -> State:
    """The state that a state file holds. Raises StateError."""
    try:
        values = fields.decode(data)
    except ValueError:
        raise StateError("not a state file") from None
    if values.get("schema") != [str(SCHEMA)]:
        version = ", ".join(values.get("schema", ["none"]))
        raise StateError(f"its state has version {version}, this sb reads {SCHEMA}")
    try:
        return State(
            identifier=values["identifier"][0],
            name=values["name"][0],
            kept=values["kept"] == ["1"],
            status=values["status"][0],
            created=int(values["created"][0]),
            wanted=_wanted(values),
            command=tuple(values.get("command", ())),
            directory=values["directory"][0],
            environment=_pairs(values.get("environment", [])),
            pid=int(values["pid"][0]),
            supervisor=int(values["supervisor"][0]),
            stop_signal=int(values.get("stop_signal", [str(int(signal.SIGTERM))])[0]),
            image=values.get("image", [""])[0],
            exit_code=int(values["exit_code"][0]) if "exit_code" in values else None,
            barriers=tuple(values.get("barrier", ())),
            limits=tuple(_limit(text) for text in values.get("limit", ())),
        )
    except (KeyError, ValueError) as error:
        raise StateError(f"its state is damaged: {error}") from error


def _limit(text: str) -> Held:
    name, value, *holders = text.split("\t")
    return Held(name, value, tuple(holders))


def _texts(value: object) -> list[str]:
    """A field of a RunSpec as texts; none for None and empty tuples."""
    if isinstance(value, bool):
        return [str(int(value))]
    if isinstance(value, tuple):
        return ["=".join(each) if isinstance(each, tuple) else each for each in value]
    return [] if value is None else [str(value)]


def _wanted(values: dict[str, list[str]]) -> RunSpec:
    wanted: dict[str, object] = {}
    for field, default in RunSpec._field_defaults.items():
        texts = values.get(f"wanted.{field}", [])
        if field == "environment":
            wanted[field] = _pairs(texts)
        elif isinstance(default, tuple):
            wanted[field] = tuple(texts)
        elif isinstance(default, bool) or field == "tty":
            wanted[field] = texts == ["1"] if texts else default
        elif isinstance(default, int):
            wanted[field] = int(texts[0]) if texts else default
        elif isinstance(default, float):
            wanted[field] = float(texts[0]) if texts else default
        else:
            wanted[field] = texts[0] if texts else default
    return RunSpec(**wanted)  # type: ignore[arg-type]  # a value of each field's own type, as its default tells


def _pairs(texts: list[str]) -> tuple[tuple[str, str], ...]:
    parts = (text.partition("=") for text in texts)
    return tuple((name, value) for name, _, value in parts)
