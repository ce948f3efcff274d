"""Who is measured: ways to have a directory that can be changed without changing the one below."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

_PATIENCE = 30
OURS = "sb"
BASELINE = "fuse-overlayfs"
_SERVE = (sys.executable, "-I", "-m", "fuse_overlay.cli", "-f")


class Mount(NamedTuple):
    """A mounted contestant: the directory to work in, and the server, if it has one."""

    merged: Path
    server: subprocess.Popen[bytes] | None


class Contestant(NamedTuple):
    """A way to mount. `command`: what serves, in the foreground; `environment`: what is added to its own.

    `options`: of mount(8), beside those that name the directories.
    """

    name: str
    command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    options: str = ""


CONTESTANTS = (
    Contestant("bare"),
    Contestant("kernel", ("mount", "-t", "overlay", "overlay"), options=",userxattr"),
    Contestant(BASELINE, ("fuse-overlayfs", "-f")),
    Contestant(OURS, _SERVE),
    Contestant(f"{OURS} in Python", _SERVE, (("FUSE_OVERLAY_SHORTCUT", "off"),)),
    # The lower directory is no layer, but may change at any time, as the host's own tree under `sb run`. A directory
    # has the name too, so there is no comma in it, which ends an option of mount(8).
    Contestant(f"{OURS} over a live tree", _SERVE, options=",live"),
)


def mount(contestant: Contestant, lowers: list[Path], place: Path, before: str, *, writes: bool) -> Mount:
    """Mount over the lower directories (topmost first), with the rest in the empty directory `place`.

    `before` is a script that is run in the upper. `writes`: what comes will change files. Raises OSError and
    subprocess.CalledProcessError.
    """
    upper, work, merged = (place / name for name in ("upper", "work", "merged"))
    for path in (upper, work, merged):
        path.mkdir(parents=True)
    if contestant.name == "bare":
        if not writes and not before:
            return Mount(lowers[0], None)
        shutil.copytree(lowers[0], merged, symlinks=True, dirs_exist_ok=True)
    where = merged if contestant.name == "bare" else upper
    if before:
        subprocess.run(["sh", "-euc", before], cwd=where, check=True)
    if contestant.name == "bare":
        return Mount(merged, None)
    options = f"lowerdir={':'.join(map(str, lowers))},upperdir={upper},workdir={work}{contestant.options}"
    if contestant.name == "kernel":
        subprocess.run([*contestant.command, "-o", options, merged], check=True, stderr=subprocess.PIPE)
        return Mount(merged, None)
    command = [*contestant.command, "-o", options, str(merged)]
    environment = {**os.environ, **dict(contestant.environment)}
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + _PATIENCE
    while not os.path.ismount(merged):
        if server.poll() is not None or time.monotonic() > deadline:
            server.kill()
            shutil.rmtree(place)
            raise OSError(f"{contestant.name} did not mount")
        time.sleep(0.01)
    return Mount(merged, server)


def unmount(mounted: Mount, place: Path) -> None:
    """Unmount, wait for the server's end, and remove the rest."""
    if os.path.ismount(mounted.merged):
        subprocess.run(["umount", mounted.merged], check=True)
    if mounted.server is not None:
        mounted.server.wait(_PATIENCE)
    shutil.rmtree(place)


def memory(mounted: Mount) -> int:
    """The resident memory of the server in KiB, 0 without one (proc_pid_status(5))."""
    if mounted.server is None:
        return 0
    status = Path(f"/proc/{mounted.server.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def processor_time(mounted: Mount) -> float:
    """What the server has spent so far, in milliseconds (the first number of /proc/PID/schedstat); 0 without one."""
    if mounted.server is None:
        return 0
    return int(Path(f"/proc/{mounted.server.pid}/schedstat").read_text().split()[0]) / 1e6
