"""How long a sandbox takes to start: `sb run -- true` beside podman, bwrap and ch-run, in one interleaved run.

    contrib/bench start [--rounds N]

Asserts nothing. The figures are wall times of this machine at this moment: only the ratios travel.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

SB = Path(sys.executable).parent / "sb"
BASELINE = "podman"
FEWEST_ROUNDS = 10
IMAGE = "sb-bench-busybox"
# What crun and ch-run want to mount on in a root file system.
DIRECTORIES = ("bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr", "var")
FILES = ("etc/group", "etc/hosts", "etc/passwd", "etc/resolv.conf")

# What the process that the user waits for imports; tests/unit/test_structure.py holds this list to its word.
CLIENT = (
    "from rootless_sb.cli import __main__, run, parsing, environment\n"
    "from rootless_sb import supervisor, plan, host, overlay_server, watcher, init, target, builder\n"
    "from rootless_sb.ui import messages\n"
)


class Contestant(NamedTuple):
    """A way to start something. `missing` says why it can't be measured here; empty if it can."""

    name: str
    command: tuple[str, ...]
    missing: str = ""


class Result(NamedTuple):
    """The wall times of one contestant, in milliseconds."""

    name: str
    times: tuple[float, ...]


class Import(NamedTuple):
    """What one module cost to import, without what it imported itself, in milliseconds."""

    module: str
    cost: float


def make_root(place: Path) -> Path:
    """A root file system with nothing but busybox in it."""
    root = place / "busybox"
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True)
    for name in FILES:
        (root / name).touch()
    busybox = shutil.which("busybox")
    if busybox is not None:
        shutil.copy2(busybox, root / "bin/busybox")
        (root / "bin/true").symlink_to("busybox")
    return root


def podman(place: Path, root: Path) -> Contestant:
    """Rootless podman, with a store of its own and an image of `root`."""
    options = ("--root", str(place / "store"), "--runroot", str(place / "run"), "--storage-driver", "overlay")
    # Without a cgroup that it may write to, podman can't make one for the container.
    run = ("podman", *options, "run", "--rm", "--network", "none", "--cgroups=disabled", IMAGE, "true")
    archive = place / "busybox.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    if shutil.which("podman") is None:
        return Contestant("podman", run, "not installed")
    made = subprocess.run(["podman", *options, "import", archive, IMAGE], capture_output=True, text=True, check=False)
    return Contestant("podman", run, last_line(made.stderr) if made.returncode else "")


def contestants(place: Path) -> list[Contestant]:
    """All of them; whether they run here is found out by the warm-up."""
    root = make_root(place)
    return [
        Contestant("sb", (str(SB), "run", "--", "true")),
        podman(place, root),
        Contestant("bwrap", ("bwrap", "--unshare-all", "--ro-bind", "/", "/", "true")),
        Contestant("ch-run", ("ch-run", str(root), "--", "/bin/true")),
        Contestant("python -I -c pass", (sys.executable, "-I", "-c", "pass")),
    ]


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


def table(results: list[Result], absent: list[Contestant]) -> str:
    """A line each: median, quickest and slowest, and the median over the baseline's."""
    medians = {result.name: statistics.median(result.times) for result in results}
    baseline = medians.get(BASELINE)
    lines = [f"{'':20} {'median':>8} {'min':>8} {'max':>8}   of {BASELINE}'s"]
    for name, times in results:
        ratio = f"{medians[name] / baseline:10.2f}" if baseline else f"{'-':>10}"
        lines.append(f"{name:20} {medians[name]:8.1f} {min(times):8.1f} {max(times):8.1f} {ratio}")
    lines += [f"{contestant.name:20} missing: {contestant.missing}" for contestant in absent]
    return "\n".join(lines)


def imports(statements: str) -> list[Import]:
    """What importing costs in a new interpreter, by module; its own start-up is included."""
    command = [sys.executable, "-I", "-X", "importtime", "-c", statements]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = []
    for line in report.splitlines():
        own, _, rest = line.removeprefix("import time:").partition("|")
        if own.strip().isdigit():
            found.append(Import(rest.partition("|")[2].strip(), int(own) / 1000))
    return found


def import_report(rounds: int) -> str:
    """What the imports of the waiting process cost, the dearest of them, and whether the heavy ones are among them."""
    runs = [imports(CLIENT) for _ in range(rounds)]
    bare = statistics.median(sum(each.cost for each in imports("pass")) for _ in range(rounds))
    whole = statistics.median(sum(each.cost for each in run) for run in runs)
    modules = [each.module for each in runs[0]]
    costs = {
        name: statistics.median(each.cost for run in runs for each in run if each.module == name) for name in modules
    }
    dearest = sorted(costs, key=lambda name: costs[name], reverse=True)[:8]
    heavy = [name for name in ("trio", "pyfuse3") if name in modules]
    return "\n".join(
        (
            f"imports of the waiting process: {len(modules)} modules, {whole:.1f} ms, {bare:.1f} of them Python's own",
            f"  the dearest: {', '.join(f'{name} {costs[name]:.1f}' for name in dearest)}",
            f"  trio, pyfuse3: {' and '.join(heavy) or 'neither is among them'}",
            f"  pyfuse3's library in a running one: {'mapped' if library_is_mapped() else 'not mapped'}",
        )
    )


def library_is_mapped() -> bool:
    """Whether a real waiting process has pyfuse3's compiled part in its memory, whatever it has imported."""
    command = [str(SB), "run", "-q", "--", "sh", "-c", "echo; read x"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return "pyfuse3" in Path(f"/proc/{process.pid}/maps").read_text()


def remove(place: Path) -> None:
    """Remove what was made; files of podman's store may belong to subordinate ids."""
    if shutil.which("podman") is not None:
        subprocess.run(["podman", "unshare", "rm", "-rf", place], stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(place, ignore_errors=True)


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description="Measure how long a sandbox takes to start.")
    options.add_argument("--rounds", type=int, default=20, help=f"at least {FEWEST_ROUNDS} (default: 20)")
    rounds = max(options.parse_args().rounds, FEWEST_ROUNDS)
    place = Path(tempfile.mkdtemp(prefix="sb-bench-", dir="/var/tmp"))
    try:
        entered = [warm_up(contestant) for contestant in contestants(place)]
        results = measure([contestant for contestant in entered if not contestant.missing], rounds)
    finally:
        remove(place)
    print(f"start of a sandbox that runs `true`: wall time in ms, {rounds} rounds, {os.cpu_count()} processors\n")
    print(table(results, [contestant for contestant in entered if contestant.missing]))
    print(f"\n{import_report(FEWEST_ROUNDS)}")


if __name__ == "__main__":
    main()
