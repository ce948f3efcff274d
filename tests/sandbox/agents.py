"""The agent of one test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sandbox import processes
from tests.sandbox.running import PATIENCE, SB, eventually

if TYPE_CHECKING:
    from tests.sandbox.running import Sandboxes

WARM = "  agent\n"  # the phase that only such a run has


class Agent:
    """The agent of one test, found in a directory of its own."""

    def __init__(self, sb: Sandboxes, runtime: Path) -> None:
        self.sb = sb
        self.runtime = runtime
        self.held: list[int] = []  # descriptors
        sb.environment |= {"XDG_RUNTIME_DIR": str(runtime), "SB_AGENT": "1", "SB_TRACE": "1"}

    def run(self, *words: str, through: tuple[str, ...] = (), given: str = "") -> subprocess.CompletedProcess[str]:
        """Run `sb run -q WORDS`, by way of another program if one is given."""
        return subprocess.run(
            [*through, str(SB), "run", "-q", *words],
            env=self.sb.environment,
            input=given,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=PATIENCE,
            check=False,
        )

    def warm(self, *words: str, through: tuple[str, ...] = (), given: str = "") -> str:
        """Run it, which the agent must have started and which must succeed; its stdout."""
        done = self.run(*words, through=through, given=given)
        assert (0, True) == (done.returncode, WARM in done.stderr), done.stderr
        return done.stdout

    def cold(self, *words: str, through: tuple[str, ...] = ()) -> str:
        """Run it, which must succeed without the agent; its stdout."""
        done = self.run(*words, through=through)
        assert (0, False) == (done.returncode, WARM in done.stderr), done.stderr
        return done.stdout

    def pids(self) -> list[int]:
        """The agents that run; one that still starts is named by its command line."""
        return [
            each.pid
            for each in processes.descendants(os.getpid())
            if each.state != "Z" and (each.name == "sb-agent" or b"rootless_sb.agent.server" in _arguments(each.pid))
        ]

    def sockets(self) -> list[Path]:
        """Where agents listen."""
        return [path for path in self.runtime.glob("sb/agent-*") if path.is_socket()]

    def start(self, *, through: tuple[str, ...] = ()) -> None:
        """Have the first run start it."""
        self.cold("--", "true", through=through)
        eventually(self.sockets)

    def close(self) -> None:
        """End it."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself, or with another
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not self.pids())
        while self.held:
            os.close(self.held.pop())


def _arguments(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def standby() -> tuple[int, str]:
    """The pid of the worker that waits for the next caller, and where /proc has the network that it has made for it."""
    for each in processes.descendants(os.getpid()):
        if each.name == "sb-ready":
            paths = [f"/proc/{each.pid}/fd/{number}" for number in os.listdir(f"/proc/{each.pid}/fd")]
            return each.pid, next((path for path in paths if _link(path).startswith("net:")), "")
    return 0, ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:  # closed meanwhile
        return ""
