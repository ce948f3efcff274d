"""How long the commands take that people say all day: `sb exec` beside `podman exec`, `sb ps` beside `podman ps`.

    contrib/bench life [--rounds N] [--sandboxes N] [--containers N]

A tenth of the sandboxes runs, and `sb ps -a` lists all; all of podman's containers run. Asserts nothing: only the
ratios travel.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import measuring
from tests.measuring import FEWEST_ROUNDS, SB, Contestant


def start_sandboxes(number: int) -> None:
    """Sandboxes that have ended, and for each nine of them one that runs; the last one has the name `box`."""
    for each in range(number):
        runs = each % 10 == 9 or each == number - 1
        name = ("--name", "box") if each == number - 1 else ("--keep",)
        command = ("-d", *name, "--", "sleep", "10000") if runs else ("-q", *name, "--", "true")
        subprocess.run([SB, "run", *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)


def start_containers(podman: measuring.Podman, number: int) -> None:
    """Containers that run; the last one has the name `box`."""
    for each in range(number):
        name = ("--name", "box") if each == number - 1 else ()
        subprocess.run([*podman.run("-d", *name), "busybox", "sleep", "10000"], stdout=subprocess.DEVNULL, check=True)


def end(podman: measuring.Podman, store: Path) -> None:
    """Remove what was started, and lies in this store: `sb ps` lists what else the user has running, too."""
    known = [path.name for path in store.glob("[!.]*") if path.name != "names"]
    if known:
        subprocess.run([SB, "rm", "-f", *known], stdout=subprocess.DEVNULL, check=True)
    if not podman.missing:
        subprocess.run(podman.command("rm", "-f", "-a", "-t", "0"), stdout=subprocess.DEVNULL, check=False)


def compare(title: str, ours: Contestant, theirs: Contestant, rounds: int) -> str:
    """The table of two contestants and the bare interpreter."""
    bare = Contestant("python -I -c pass", (sys.executable, "-I", "-c", "pass"))
    entered = [measuring.warm_up(each) for each in (ours, theirs, bare)]
    results = measuring.measure([each for each in entered if not each.missing], rounds)
    return f"{title}\n{measuring.table(results, [each for each in entered if each.missing], theirs.name)}\n"


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description="Measure sb exec and sb ps beside podman's.")
    options.add_argument("--rounds", type=int, default=20, help=f"at least {FEWEST_ROUNDS} (default: 20)")
    options.add_argument("--sandboxes", type=int, default=200)
    options.add_argument("--containers", type=int, default=20)
    wanted = options.parse_args()
    rounds = max(wanted.rounds, FEWEST_ROUNDS)
    place = Path(tempfile.mkdtemp(prefix="sb-bench-", dir="/var/tmp"))
    os.environ["SB_DATA_HOME"] = str(place / "sb")
    podman = measuring.podman(place, measuring.make_root(place))
    try:
        start_sandboxes(wanted.sandboxes)
        if not podman.missing:
            start_containers(podman, wanted.containers)
        print(f"wall time in ms, {rounds} rounds, {os.cpu_count()} processors\n")
        theirs = Contestant("podman exec", podman.command("exec", "box", "true"), podman.missing)
        print(compare("one more command", Contestant("sb exec", (str(SB), "exec", "box", "true")), theirs, rounds))
        theirs = Contestant("podman ps", podman.command("ps"), podman.missing)
        title = f"a list: sb's of {wanted.sandboxes}, podman's of {wanted.containers}"
        print(compare(title, Contestant("sb ps -a", (str(SB), "ps", "-a")), theirs, rounds))
    finally:
        end(podman, place / "sb/sandboxes")
        measuring.remove(place)


if __name__ == "__main__":
    main()
