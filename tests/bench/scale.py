"""What many sandboxes at once take of the machine: memory of each, beside podman's containers.

    contrib/bench scale [--alive N]

What is measured is by how much the memory that is available shrinks while so many run, divided by their number: it
counts what they share once, and the kernel's part too. Asserts nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests import measuring
from tests.measuring import SB


class Kind(NamedTuple):
    """A way to run a command. `missing` says why it can't be measured here; empty if it can."""

    name: str
    command: tuple[str, ...]
    missing: str = ""


def available() -> int:
    """MemAvailable of proc_meminfo(5), in KiB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def start(command: tuple[str, ...], number: int) -> list[subprocess.Popen[bytes]]:
    """So many that run, each waiting for its stdin's end."""
    begun = [
        subprocess.Popen(
            [*command, "sh", "-c", "echo ready; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(number)
    ]
    for process in begun:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{command[0]} didn't start")
    return begun


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    """End them all."""
    for process in processes:
        process.communicate()


def measured(kind: Kind, number: int) -> str:
    """A line of the table: the first one alone, then each of those that follow."""
    if kind.missing:
        return f"{kind.name:24} missing: {kind.missing}"
    before = available()
    first = start(kind.command, 1)
    with_one = available()
    others = start(kind.command, number - 1)
    with_all = available()
    end(others)
    end(first)
    mebibytes = [(before - with_one) / 1024, (with_one - with_all) / (number - 1) / 1024]
    return f"{kind.name:24} {mebibytes[0]:10.1f} {mebibytes[1]:14.1f}"


def kinds(podman: measuring.Podman, root: Path) -> list[Kind]:
    """What is measured."""
    sb = (str(SB), "run", "-q", "-i")
    return [
        Kind("sb run", (*sb, "--")),
        Kind("sb run --agent", (*sb, "--agent", "--")),
        Kind("sb run --engine kernel", (*sb, "--engine", "kernel", "--rootfs", str(root), "--")),
        Kind("podman run", podman.run("-i", "--rm"), podman.missing),
    ]


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description="Measure the memory of sandboxes.")
    options.add_argument("--alive", type=int, default=30, help="how many at once (default: 30)")
    wanted = options.parse_args()
    place = Path(tempfile.mkdtemp(prefix="sb-bench-", dir="/var/tmp"))
    root = measuring.make_root(place)
    (root / "bin/sh").symlink_to("busybox")
    try:
        podman = measuring.podman(place, root)
        print(f"memory in MiB, {wanted.alive} at once\n\n{'':24} {'the first':>10} {'each more':>14}")
        for kind in kinds(podman, root):
            print(measured(kind, wanted.alive))
    finally:
        measuring.remove(place)


if __name__ == "__main__":
    main()
