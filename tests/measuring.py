"""What the benchmarks share: contestants in an interleaved run, podman among them, and the table of their times."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

SB = Path(sys.executable).parent / "sb"
FEWEST_ROUNDS = 10
_IMAGE = "sb-bench-busybox"
# What crun and ch-run want to mount on in a root file system.
_DIRECTORIES = ("bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr", "var")
_FILES = ("etc/group", "etc/hosts", "etc/passwd", "etc/resolv.conf")


class Contestant(NamedTuple):
    """A way to start something. `missing` says why it can't be measured here; empty if it can."""

    name: str
    command: tuple[str, ...]
    missing: str = ""


class Result(NamedTuple):
    """The wall times of one contestant, in milliseconds."""

    name: str
    times: tuple[float, ...]


def make_root(place: Path) -> Path:
    """A root file system with nothing but busybox in it."""
    root = place / "busybox"
    for name in _DIRECTORIES:
        (root / name).mkdir(parents=True)
    for name in _FILES:
        (root / name).touch()
    busybox = shutil.which("busybox")
    if busybox is not None:
        shutil.copy2(busybox, root / "bin/busybox")
        (root / "bin/true").symlink_to("busybox")
    return root


class Podman(NamedTuple):
    """Rootless podman with a store of its own in `place`. `missing`: why it can't be used; empty if it can."""

    place: Path
    missing: str

    def command(self, *words: str) -> tuple[str, ...]:
        """A command line of podman's on that store."""
        options = ("--root", str(self.place / "store"), "--runroot", str(self.place / "run"))
        return ("podman", *options, "--storage-driver", "overlay", *words)

    def run(self, *options: str) -> tuple[str, ...]:
        """A command line to which a command for a container of busybox is to be appended."""
        # Without a cgroup that it may write to, podman can't make one for the container.
        return self.command("run", "--network", "none", "--cgroups=disabled", *options, _IMAGE)


def podman(place: Path, root: Path) -> Podman:
    """Podman with an image of `root`."""
    found = Podman(place, "" if shutil.which("podman") else "not installed")
    if found.missing:
        return found
    archive = place / "busybox.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    made = subprocess.run(found.command("import", str(archive), _IMAGE), capture_output=True, text=True, check=False)
    return found._replace(missing=last_line(made.stderr) if made.returncode else "")


def last_line(text: str) -> str:
    """The last line that isn't empty: where programs say what was wrong."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "failed")


def warm_up(contestant: Contestant) -> Contestant:
    """Run a contestant once; one that fails is missing, with the reason."""
    if contestant.missing:
        return contestant
    if shutil.which(contestant.command[0]) is None:
        return contestant._replace(missing="not installed")
    done = subprocess.run(contestant.command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return contestant._replace(missing=last_line(done.stderr) if done.returncode else "")


def measure(present: list[Contestant], rounds: int) -> list[Result]:
    """Run all in turn, so that what slows the machine down for a while slows them all down."""
    times: dict[str, list[float]] = {contestant.name: [] for contestant in present}
    for _ in range(rounds):
        for contestant in present:
            times[contestant.name].append(run_once(contestant.command))
    return [Result(name, tuple(each)) for name, each in times.items()]


def run_once(command: tuple[str, ...]) -> float:
    """The wall time of one run, in milliseconds."""
    begin = time.perf_counter()
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - begin) * 1000


def table(results: list[Result], absent: list[Contestant], baseline_name: str) -> str:
    """A line each: median, quickest and slowest, and the median over the baseline's."""
    medians = {result.name: statistics.median(result.times) for result in results}
    baseline = medians.get(baseline_name)
    lines = [f"{'':20} {'median':>8} {'min':>8} {'max':>8}   of {baseline_name}'s"]
    for name, times in results:
        ratio = f"{medians[name] / baseline:10.2f}" if baseline else f"{'-':>10}"
        lines.append(f"{name:20} {medians[name]:8.1f} {min(times):8.1f} {max(times):8.1f} {ratio}")
    lines += [f"{contestant.name:20} missing: {contestant.missing}" for contestant in absent]
    return "\n".join(lines)


def remove(place: Path) -> None:
    """Remove what was made; files of podman's store may belong to subordinate ids."""
    if shutil.which("podman") is not None:
        subprocess.run(["podman", "unshare", "rm", "-rf", place], stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(place, ignore_errors=True)
