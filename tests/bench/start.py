"""How long a sandbox takes to start: `sb run -- true` beside podman, bwrap and ch-run, in one interleaved run.

    contrib/bench start [--rounds N] [--svg FILE]

Then where the time of `sb run` goes, with and without the agent: its phases, as --status-fd tells them.

Asserts nothing. The figures are wall times of this machine at this moment: only the ratios travel.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests import measuring
from tests.bench import phasing
from tests.measuring import FEWEST_ROUNDS, SB, Contestant

# What the process that the user waits for imports; tests/unit/test_structure.py holds this list to its word.
CLIENT = (
    "from rootless_sb.cli import __main__, run, parsing, environment\n"
    "from rootless_sb import supervisor, plan, host, overlay_server, watcher, init, target, builder\n"
    "from rootless_sb.ui import messages\n"
)


class Import(NamedTuple):
    """What one module cost to import, without what it imported itself, in milliseconds."""

    module: str
    cost: float


def contestants(place: Path) -> list[Contestant]:
    """All of them; whether they run here is found out by the warm-up."""
    root = measuring.make_root(place)
    podman = measuring.podman(place, root)
    on_images = ("env", f"SB_DATA_HOME={place}/data", f"XDG_CACHE_HOME={place}/cache", str(SB))
    subprocess.run([*on_images, "image", "import", "-q", root, "bench:1"], check=True, capture_output=True)
    return [
        Contestant("sb", (str(SB), "run", "--", "true")),
        Contestant("sb --image", (*on_images, "run", "--image", "bench:1", "--", "true")),
        Contestant("sb --agent", (str(SB), "run", "--agent", "--", "true")),
        Contestant("podman", (*podman.run("--rm"), "true"), podman.missing),
        Contestant("bwrap", ("bwrap", "--unshare-all", "--ro-bind", "/", "/", "true")),
        Contestant("ch-run", ("ch-run", str(root), "--", "/bin/true")),
        Contestant("python -I -c pass", (sys.executable, "-I", "-c", "pass")),
    ]


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


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description="Measure how long a sandbox takes to start.")
    options.add_argument("--rounds", type=int, default=20, help=f"at least {FEWEST_ROUNDS} (default: 20)")
    options.add_argument("--svg", type=Path, help="write a picture of the phases there")
    wanted = options.parse_args()
    rounds = max(wanted.rounds, FEWEST_ROUNDS)
    os.environ["SB_AGENT_IDLE"] = "30"
    place = Path(tempfile.mkdtemp(prefix="sb-bench-", dir="/var/tmp"))
    try:
        entered = [measuring.warm_up(contestant) for contestant in contestants(place)]
        phasing.wait_for_agent()
        results = measuring.measure([contestant for contestant in entered if not contestant.missing], rounds)
        bars = [phasing.median(phasing.observe(option) for _ in range(rounds)) for option in ("--no-agent", "--agent")]
    finally:
        measuring.remove(place)
    print(f"start of a sandbox that runs `true`: wall time in ms, {rounds} rounds, {os.cpu_count()} processors\n")
    print(measuring.table(results, [each for each in entered if each.missing], "podman"))
    print(f"\nphases in ms\n{phasing.table(dict(zip(('sb', 'sb --agent'), bars, strict=True)))}")
    print(f"\n{import_report(FEWEST_ROUNDS)}")
    if wanted.svg:
        others = {name: statistics.median(times) for name, times in results if not name.startswith(("sb", "python"))}
        wanted.svg.write_text(phasing.svg(dict(zip(("sb", "sb --agent"), bars, strict=True)), others))


if __name__ == "__main__":
    main()
