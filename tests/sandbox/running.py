"""Runs `sb run` as a person does, and looks for what a run has left behind."""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypedDict

from rootless_sb.kernel import landlock
from tests.sandbox import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SB = Path(sys.executable).parent / "sb"
PATIENCE = 60.0  # seconds for what takes a fraction of one, so that a hang is a failure


class Streams(TypedDict, total=False):
    """What a started command's 0, 1 and 2 are, as subprocess.Popen takes it."""

    stdin: int | IO[bytes] | IO[str]
    stdout: int | IO[bytes] | IO[str]
    stderr: int | IO[bytes] | IO[str]


class Sandboxes:
    """Starts sandboxes whose layers lie in a directory of this test's own.

    The process that runs the tests is a child subreaper (prctl(2)): whatever a run leaves becomes its child.
    """

    def __init__(self, place: Path) -> None:
        self.layers = place / f"sb-{os.getuid()}"
        own = {"SLURM_TMPDIR": place, "XDG_DATA_HOME": place / "data", "XDG_CONFIG_HOME": place / "config"}
        self.environment = {**os.environ, **{name: str(path) for name, path in own.items()}}
        if not landlock.version_or_none():  # as a user of an old kernel does who has read the warning
            self.environment["SB_ALLOW_DEGRADED"] = "landlock"
        self._started: list[subprocess.Popen[bytes]] = []

    def __call__(
        self,
        *arguments: str,
        given: str = "",
        directory: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `sb run ARGUMENTS` to its end; `given` is its stdin. Nothing of it may be left then."""
        process = self.start(*arguments, directory=directory, variables=variables)
        try:
            output, errors = process.communicate(given.encode(), timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            raise AssertionError(f"still running after {PATIENCE} s: {output!r} {errors!r}") from None
        killed = process.returncode < 0  # by itself, at a fault point: the watcher cleans up after it
        assert [] == self.left_behind(within=2.0 if killed else 0.0)
        return subprocess.CompletedProcess(arguments, process.returncode, output.decode(), errors.decode())

    def command(self, *arguments: str, fault: str = "") -> subprocess.CompletedProcess[str]:
        """Run another command of sb's than `run`; `fault` names the point at which it is to be killed."""
        return subprocess.run(
            [SB, *arguments],
            env={**self.environment, "SB_FAULT": fault},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def start(
        self,
        *arguments: str,
        directory: Path | None = None,
        variables: Mapping[str, str] | None = None,
        streams: Streams | None = None,
        descriptors: Sequence[int] = (),
        first: Callable[[], object] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start `sb run ARGUMENTS`, with pipes unless `streams` says otherwise; it is killed at the test's end.

        `descriptors` are inherited; `first` is called in the new process, which is then a session of its own.
        """
        pipes: Streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [SB, "run", *arguments],
            bufsize=0,
            cwd=directory,
            env={**self.environment, **(variables or {})},
            pass_fds=descriptors,
            start_new_session=first is not None,
            preexec_fn=first,  # noqa: PLW1509 (there are no threads here)
            **(streams if streams is not None else pipes),
        )
        self._started.append(process)
        return process

    def adopt(self, process: subprocess.Popen[bytes]) -> None:
        """Take a process for the test's own, no leftover; it is killed at the test's end."""
        self._started.append(process)

    def start_shell(self, script: str) -> subprocess.Popen[bytes]:
        """Start a shell script whose $0 is `sb`; it is killed at the test's end."""
        process = subprocess.Popen(
            ["sh", "-c", script, SB], env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self._started.append(process)
        return process

    def left_behind(self, within: float = 0.0) -> list[str]:
        """What sandboxes that have ended have left, once `within` seconds have passed or there is nothing more."""
        deadline = time.monotonic() + within
        while (left := [*self._processes(), *self._directories(), *self._mounts()]) and time.monotonic() < deadline:
            time.sleep(0.02)
        return left

    def _processes(self) -> list[str]:
        own = {process.pid for process in self._started}
        left = [process for process in processes.descendants(os.getpid()) if process.pid not in own]
        for process in left:
            if process.state == "Z" and process.parent == os.getpid():
                os.waitpid(process.pid, 0)
        return [f"{process.name} {process.pid}" for process in left if process.state != "Z"]

    def _directories(self) -> list[str]:
        return [str(path) for path in self.layers.iterdir()] if self.layers.exists() else []

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if f" {self.layers}/" in line]

    def close(self) -> None:
        """End what a test has left running."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
            process.wait()


def remove_for_all(path: Path) -> None:
    """Remove a tree of which the user's subordinate ids may own some."""
    remove = ["unshare", "--map-root-user", "--map-auto", "rm", "-rf", str(path)]
    subprocess.run(remove, stderr=subprocess.DEVNULL, check=False)


def listed(sb: Sandboxes, *arguments: str) -> list[dict[str, Any]]:
    """What `sb ps --json` lists of this test's own sandboxes."""
    document = json.loads(sb.command("ps", "--json", *arguments).stdout)
    assert 1 == document["schema"]
    described = {each["id"] for each in document["sandboxes"]}
    own = {path.name for path in (*store(sb).glob("*"), *sb.layers.glob("*"))}
    return [each for each in document["sandboxes"] if each["id"] in described & own]


def store(sb: Sandboxes) -> Path:
    """Where sandboxes that are kept lie."""
    return sb.layers.parent / "data" / "sb" / "sandboxes"


def start_on_terminal(sb: Sandboxes, terminal: int, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
    """Start a command, of sb's or another, as the leader of a session whose terminal this is, on its three streams."""
    process = subprocess.Popen(
        command,
        env=sb.environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 (there are no threads here)
    )
    sb.adopt(process)
    return process


def read_until(descriptor: int, wanted: bytes, data: bytes = b"") -> bytes:
    """Read until `wanted` has come after `data`, and return everything. It must come."""
    deadline = time.monotonic() + PATIENCE
    while wanted not in data:
        ready, _, _ = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0.0))
        chunk = os.read(descriptor, 65536) if ready else b""
        assert chunk, f"{wanted!r} didn't come, only {data!r}"
        data += chunk
    return data


def stdout_until(process: subprocess.Popen[bytes], wanted: bytes) -> bytes:
    """Read a started command's stdout until `wanted` has come, and return everything. It must come."""
    assert process.stdout is not None
    return read_until(process.stdout.fileno(), wanted)


def tell(process: subprocess.Popen[bytes], text: str) -> None:
    """Write to a started command's stdin."""
    assert process.stdin is not None
    process.stdin.write(text.encode())


def eventually(condition: Callable[[], object]) -> None:
    """Wait until something is so. It must become so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it didn't come about"
        time.sleep(0.02)


def python(sb: Sandboxes, script: str, *options: str) -> list[str]:
    """Run a Python script inside, after `sb run`'s options; it must succeed. Returns the lines that it printed."""
    result = sb(*options, sys.executable, "-I", "-c", textwrap.dedent(script))
    assert (0, "") == (result.returncode, "" if result.returncode == 0 else result.stderr)
    return result.stdout.splitlines()
