"""How long an image of many small files takes to come: `sb image pull` beside podman and skopeo, in turn.

    contrib/bench pull [--rounds N] [--files N] [--layers N]

From Debian's docker-registry on this machine's loopback; each pull is into an empty store. skopeo only copies the blobs
(to a directory) and unpacks nothing. Asserts nothing; only the ratios travel.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests import measuring
from tests.images.archives import Member, archive
from tests.images.layouts import Layout
from tests.images.registries import Registry
from tests.measuring import SB, Contestant, Result

_DIRECTORY = 100  # files in each


def build(place: Path, files: int, layers: int, average: int) -> Layout:
    """An image of so many files of about `average` bytes, which compress as programs and texts do."""
    chosen = random.Random(1)
    words = [bytes(chosen.choices(b"abcdefghijklmnop \n", k=12)) for _ in range(4000)]
    made = []
    for layer in range(layers):
        members = [
            Member(
                f"usr/{layer}/{number // _DIRECTORY}/file-{number}",
                b"".join(chosen.choices(words, k=chosen.randint(0, 2 * average // 12))),
            )
            for number in range(files // layers)
        ]
        made.append(archive(*members))
    layout = Layout(place / "layout")
    layout.image(made, "bench")
    return layout


class Puller(NamedTuple):
    """Who pulls, and the command that empties its store before, which isn't timed."""

    contestant: Contestant
    emptying: str


def pullers(place: Path, name: str) -> list[Puller]:
    """All of them."""
    data, cache, copied = place / "data", place / "cache", place / "copied"
    podman = ("podman", f"--root={place}/r", f"--runroot={place}/rr", "--storage-driver=overlay")
    skopeo = ("skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false")
    ours = ("env", f"SB_DATA_HOME={data}", f"XDG_CACHE_HOME={cache}", str(SB), "image", "pull", "-q", name)
    return [
        Puller(Contestant("sb image pull", ours), f"rm -rf {data} {cache}"),
        Puller(
            Contestant("podman pull", (*podman, "pull", "-q", "--tls-verify=false", name)),
            f"{shlex.join(podman)} rmi -af",
        ),
        Puller(Contestant("skopeo copy", (*skopeo, f"docker://{name}", f"dir:{copied}")), f"rm -rf {copied}"),
    ]


def measure(present: list[Puller], rounds: int) -> list[Result]:
    """All in turn."""
    times: dict[str, list[float]] = {each.contestant.name: [] for each in present}
    for _ in range(rounds):
        for contestant, emptying in present:
            subprocess.run(["sh", "-c", f"{emptying}; sync"], check=False, capture_output=True)
            times[contestant.name].append(measuring.run_once(contestant.command))
    return [Result(name, tuple(each)) for name, each in times.items()]


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description="Measure how long an image of many small files takes to come.")
    options.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    options.add_argument("--files", type=int, default=40_000, help="(default: 40000)")
    options.add_argument("--layers", type=int, default=4, help="(default: 4)")
    parsed = options.parse_args()
    place = Path(tempfile.mkdtemp(prefix="sb-bench-", dir="/var/tmp"))
    registry = Registry(place / "registry")
    try:
        layout = build(place, parsed.files, parsed.layers, 300_000_000 // parsed.files)
        name = registry.add(layout.path, "bench", "bench:1")
        entered = [each._replace(contestant=measuring.warm_up(each.contestant)) for each in pullers(place, name)]
        results = measure([each for each in entered if not each.contestant.missing], parsed.rounds)
    finally:
        registry.close()
        measuring.remove(place)
    what = f"{parsed.files} files, 300 MB in {parsed.layers} layers"
    print(f"an image of {what} from loopback: wall time in ms, {parsed.rounds} rounds, {os.cpu_count()} processors\n")
    print(measuring.table(results, [each.contestant for each in entered if each.contestant.missing], "podman pull"))


if __name__ == "__main__":
    main()
