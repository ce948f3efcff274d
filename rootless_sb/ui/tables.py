"""Sandboxes in columns, and as the facts that JSON has of them. Pure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rootless_sb.ui.messages import human_size, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless_sb.census import Process
    from rootless_sb.state import State

_WIDEST_COMMAND = 40


def facts(state: State) -> dict[str, object]:
    """What `sb ps --json` says of a sandbox."""
    return {
        "id": state.identifier,
        "name": state.name or None,
        "status": state.status,
        "image": image(state),
        "created": rfc3339(state.created),
        "pid": state.pid or None,
        "command": [text(word) for word in state.command],
        "exit_code": state.exit_code,
    }


def details(state: State, directory: str) -> dict[str, object]:
    """What `sb inspect` says of a sandbox, besides `facts`."""
    said = ("name", "keep", "seccomp_profile")
    wanted = {name: plain(value) for name, value in state.wanted._asdict().items() if name not in said}
    return {
        **facts(state),
        "kept": state.kept,
        "directory": text(directory),
        "layer": text(f"{directory}/upper"),
        "workdir": text(state.directory),
        "barriers": list(state.barriers),
        "limits": {each.name: {"limit": each.value, "held_by": list(each.holders)} for each in state.limits},
        "environment": {text(name): text(value) for name, value in state.environment},
        "options": wanted,
    }


def plain(value: object) -> object:
    """A value of a RunSpec as JSON has it."""
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return text(value) if isinstance(value, str) else value


def text(word: str) -> str:
    """A word with the bytes that aren't UTF-8 escaped: JSON can't hold them."""
    return word.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def image(state: State) -> str:
    """The lower layer: an image's name, or a directory, `/` for the host's view."""
    return text(state.wanted.image or state.wanted.rootfs or "/")


def rfc3339(seconds: int) -> str:
    """A time in UTC as RFC 3339 writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def sandboxes(states: Sequence[State], now: int) -> str:
    """A table of sandboxes; `now` in seconds since 1970, for their ages."""
    rows = [
        (
            each.identifier,
            each.name,
            status(each),
            age(now - each.created),
            shortened(" ".join(map(printable, each.command))),
        )
        for each in states
    ]
    return columns((("ID", "NAME", "STATUS", "AGE", "COMMAND"), *rows))


def tree(state: State, found: Sequence[Process]) -> str:
    """A sandbox and its processes, each below its parent: pids on the host, in the sandbox, and of the parent there."""
    inside = {each.pid: each.inside for each in found}
    rows = [
        (
            str(each.pid),
            str(each.inside or "-"),
            str(each.parent),
            str(inside.get(each.parent) or "-"),
            "  " * each.depth + shortened(printable(each.command)),
        )
        for each in found
    ]
    title = " ".join(word for word in (state.identifier, state.name, status(state)) if word)
    return f"{title}\n{columns((('PID', 'INSIDE', 'PARENT', 'INSIDE', 'COMMAND'), *rows))}"


def processes(found: Sequence[Process]) -> list[dict[str, object]]:
    """What JSON says of processes: pids on the host and inside, null where there is none; memory in bytes."""
    inside = {each.pid: each.inside for each in found}
    return [
        {
            "pid": each.pid,
            "pid_inside": each.inside or None,
            "parent": each.parent,
            "parent_inside": inside.get(each.parent) or None,
            "state": each.state,
            "cpu_seconds": each.seconds,
            "memory": each.memory,
            "command": text(each.command),
        }
        for each in found
    ]


def top(found: Sequence[Process]) -> str:
    """A table of processes and what they use."""
    rows = [
        (
            str(each.pid),
            str(each.inside or "-"),
            each.state,
            f"{each.seconds:.2f}",
            human_size(each.memory),
            shortened(printable(each.command)),
        )
        for each in found
    ]
    return columns((("PID", "INSIDE", "STATE", "CPU-SECONDS", "MEMORY", "COMMAND"), *rows))


def status(state: State) -> str:
    """A sandbox's status in words: how it ended, too."""
    return state.status if state.exit_code is None else f"{state.status} ({state.exit_code})"


def age(seconds: int) -> str:
    """A time span as people read it: `5s`, `3m`, `2h`, `9d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"


def shortened(line: str) -> str:
    """The beginning of a long line."""
    return line if len(line) <= _WIDEST_COMMAND else line[: _WIDEST_COMMAND - 1] + "…"


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows as lines with aligned columns."""
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)
