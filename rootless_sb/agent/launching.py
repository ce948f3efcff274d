"""Starts the agent for later callers."""

from __future__ import annotations

import os
import sys

from rootless_sb.agent import place
from rootless_sb.kernel import files, processes

# What the agent is to have of its first caller's variables: its place and idle time, how text is written, what
# overlay servers read when they are imported.
_VARIABLES = ("XDG_RUNTIME_DIR", "SB_AGENT_IDLE", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "FUSE_OVERLAY_SHORTCUT")


def launch() -> None:
    """Start an agent in the background, unless there is one. Root has none: an agent holds no privilege.
    Nor can there be one where a caller can't be held by a descriptor (before Linux 5.3).

    That it can't be started is no reason not to run a command.
    """
    name = place.name()
    if os.geteuid() == 0 or not processes.has_pidfds() or _is_there(name):
        return
    environment = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    program = [sys.executable, "-I", "-m", "rootless_sb.agent.server", name]
    try:
        processes.start_apart(program, environment)
    except OSError:
        return


def _is_there(name: str) -> bool:
    """Whether an agent is there, or about to be: it holds its lock. (One that was killed leaves its socket.)"""
    directory = place.make()
    if directory is None:
        return False
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return files.is_locked(opened, place.lock(name))
    finally:
        os.close(opened)
