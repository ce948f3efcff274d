"""What is known of a sandbox, as a record and as the text of its state file. Pure.

The file is text: a line `key=value` for each value, a key as often as it has values; `\\` and newlines are escaped.
(JSON would have to be imported by the process that the user waits for.)
"""

from __future__ import annotations

from typing import NamedTuple

from rootless_sb.spec import RunSpec

SCHEMA = 1

CREATED = "created"
RUNNING = "running"
EXITED = "exited"
LOST = "lost"
REMOVING = "removing"  # decided for good: it isn't kept


class StateError(ValueError):
    """A text that is no state, or one of another version; the message says which."""


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

    def seen(self, *, locked: bool) -> State:
        """The state as it is now: one that says running while nobody holds its lock was lost."""
        if self.status in (CREATED, RUNNING) and not locked:
            return self._replace(status=LOST, pid=0, supervisor=0)
        return self


def running(old: State, pid: int, supervisor: int) -> State:
    """The state of a sandbox whose command has started."""
    return old._replace(status=RUNNING, pid=pid, supervisor=supervisor, exit_code=None)


def ended(old: State, exit_code: int) -> State:
    """The state of a sandbox that has ended and is kept."""
    return old._replace(status=EXITED, pid=0, supervisor=0, exit_code=exit_code)


def encode(state: State) -> bytes:
    """The text of a state file."""
    lines = [f"schema={SCHEMA}"]
    for name in ("identifier", "name", "status", "directory"):
        lines.append(f"{name}={_escape(getattr(state, name))}")
    lines += [f"kept={int(state.kept)}", f"created={state.created}", f"pid={state.pid}"]
    lines.append(f"supervisor={state.supervisor}")
    if state.exit_code is not None:
        lines.append(f"exit_code={state.exit_code}")
    lines += [f"command={_escape(word)}" for word in state.command]
    lines += [f"environment={_escape(f'{name}={value}')}" for name, value in state.environment]
    for field, value in zip(RunSpec._fields, state.wanted, strict=True):
        lines += [f"wanted.{field}={_escape(text)}" for text in _texts(value)]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def decode(data: bytes) -> State:
    """The state that a state file holds. Raises StateError."""
    values: dict[str, list[str]] = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n")[:-1]:  # splitlines() splits at other characters too
        key, equals, value = line.partition("=")
        if not equals:
            raise StateError("not a state file")
        values.setdefault(key, []).append(_unescape(value))
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
            exit_code=int(values["exit_code"][0]) if "exit_code" in values else None,
        )
    except (KeyError, ValueError) as error:
        raise StateError(f"its state is damaged: {error}") from error


def _texts(value: object) -> list[str]:
    """A field of a RunSpec as texts; none for None and empty tuples."""
    if isinstance(value, bool):
        return [str(int(value))]
    if isinstance(value, tuple):
        return ["=".join(each) if isinstance(each, tuple) else each for each in value]
    return [] if value is None else [str(value)]


def _wanted(values: dict[str, list[str]]) -> RunSpec:
    fields: dict[str, object] = {}
    for field, default in RunSpec._field_defaults.items():
        texts = values.get(f"wanted.{field}", [])
        if field == "environment":
            fields[field] = _pairs(texts)
        elif isinstance(default, tuple):
            fields[field] = tuple(texts)
        elif isinstance(default, bool) or field == "tty":
            fields[field] = texts == ["1"] if texts else default
        elif isinstance(default, float):
            fields[field] = float(texts[0]) if texts else default
        else:
            fields[field] = texts[0] if texts else default
    return RunSpec(**fields)  # type: ignore[arg-type]  # a value of each field's own type, as its default tells


def _pairs(texts: list[str]) -> tuple[tuple[str, str], ...]:
    parts = (text.partition("=") for text in texts)
    return tuple((name, value) for name, _, value in parts)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def _unescape(text: str) -> str:
    if "\\" not in text:  # nearly always: `sb ps` reads hundreds of files
        return text
    parts = text.split("\\\\")
    return "\\".join(part.replace("\\n", "\n").replace("\\r", "\r") for part in parts)
