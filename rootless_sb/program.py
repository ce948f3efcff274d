"""The program that runs in a sandbox, decided. Pure: `target` starts it."""

from __future__ import annotations

from fuse_overlay.tuples import NamedTuple


class Target(NamedTuple):
    """The program to run in the sandbox."""

    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    directory: str
    umask: int
    ignored_signals: tuple[int, ...]
    user: str = ""  # as `accounts.find` takes it; empty: root, or who the user namespace's own user is


def without_own(environment: dict[str, str]) -> dict[str, str]:
    """The variables without those that say who the user is: another user's are set at the start."""
    return {name: value for name, value in environment.items() if name not in ("HOME", "USER", "LOGNAME")}
