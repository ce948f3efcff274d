"""What the barriers cost: `sb run -- true` with all of them, and with those given up that can be, in turn.

    contrib/bench barriers [--rounds N]

Asserts nothing. The figures are wall times of this machine at this moment: only their difference means something.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

from tests.measuring import FEWEST_ROUNDS, SB, Contestant, measure

_GIVEN_UP = tuple(f"--allow-degraded={name}" for name in ("seccomp", "landlock", "no_new_privs", "nested"))
CONTESTANTS = [
    Contestant("with", (str(SB), "run", "-q", "--", "true")),
    Contestant("without", (str(SB), "run", "-q", "--cap-add=ALL", *_GIVEN_UP, "--", "true")),
]
MODULES = "from rootless_sb.security import barriers; from rootless_sb.kernel import landlock, seccomp, capabilities"
DECIDE = (
    "import time; from rootless_sb import host, spec; from rootless_sb.security import barriers\n"
    "machine = host.probe(); begin = time.perf_counter()\n"
    "barriers.decide(spec.RunSpec(), machine, ('net',)); print((time.perf_counter() - begin) * 1000)"
)


def imports() -> float:
    """What importing the barriers' modules costs, in milliseconds."""
    command = [sys.executable, "-I", "-X", "importtime", "-c", MODULES]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    lines = [line.removeprefix("import time:").split("|") for line in report.splitlines() if "rootless_sb" in line]
    return sum(int(line[0]) for line in lines) / 1000


def decision() -> float:
    """What deciding costs, the assembly of the programs included, in milliseconds."""
    done = subprocess.run([sys.executable, "-I", "-c", DECIDE], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description="Measure what the barriers cost a start.")
    options.add_argument("--rounds", type=int, default=40, help=f"at least {FEWEST_ROUNDS} (default: 40)")
    rounds = max(options.parse_args().rounds, FEWEST_ROUNDS)
    results = measure(CONTESTANTS, rounds)
    for result in results:
        print(f"{result.name:8} median {statistics.median(result.times):6.1f} ms, quickest {min(result.times):6.1f}")
    medians = [statistics.median(result.times) for result in results]
    quickest = [min(result.times) for result in results]
    print(f"the barriers cost {medians[0] - medians[1]:+.1f} ms by the medians, ", end="")
    print(f"{quickest[0] - quickest[1]:+.1f} by the quickest")
    print(f"imports {statistics.median(imports() for _ in range(FEWEST_ROUNDS)):.1f} ms, ", end="")
    print(f"decision and assembly {statistics.median(decision() for _ in range(FEWEST_ROUNDS)):.1f} ms")


if __name__ == "__main__":
    main()
