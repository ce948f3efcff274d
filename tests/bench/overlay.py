"""The overlay's speed beside a bare directory, the kernel's overlayfs and fuse-overlayfs.

    contrib/bench overlay [--place DIRECTORY|tmpfs] [--rows WORD,…] [--rounds N] [--minutes N] [--quick] [--growth]
                          [--svg FILE] [--readme] [--check] [--record]

`--readme` makes all that the README shows: both tables and both pictures. `--check` is for tests/overlay/test_speed.py.

All run as root of a user namespace with subordinate ids, in turn. "Cold" is just mounted: an ordinary user can't drop
the kernel's cache of the lower files, except of one that it names. Only the ratios travel.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.overlaying import check, growth, measurement, picture, plot, readme, report, rows, trees
from tests.bench.overlaying.contestants import BASELINE, CONTESTANTS, OURS

_TMPFS = "tmpfs"
_FEWEST = 5
_README = Path("README.md")
_PICTURES = Path("tests/bench")


def parse() -> argparse.Namespace:
    """The command line."""
    options = argparse.ArgumentParser(description="Measure the overlay beside others.")
    options.add_argument("--place", default="/var/tmp", help="a directory on a disk, or tmpfs (default: /var/tmp)")
    options.add_argument("--rows", default="", help="words; only rows with one of them in their name")
    options.add_argument("--contestants", default="", help="names; only these")
    options.add_argument("--rounds", type=int, default=_FEWEST, help=f"at least {_FEWEST}, unless --quick")
    options.add_argument("--quick", action="store_true", help="a tenth of all, and as few rounds as said")
    options.add_argument("--growth", action="store_true", help="how cost grows with files, clients and layers, instead")
    options.add_argument("--minutes", type=float, default=0, help="about how long it may take, at three rounds or more")
    options.add_argument("--svg", type=Path, help="write a picture there")
    options.add_argument("--readme", action="store_true", help="measure rows and growth, and write them to the README")
    options.add_argument("--check", action="store_true", help="small rows: fail where ratios are twice the record")
    options.add_argument("--record", action="store_true", help="of those, make the record")
    options.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return options.parse_args()


def enter() -> int:
    """Do it all once more as root of a user namespace with subordinate ids. Returns the exit status."""
    program = [sys.executable, "-m", "tests.bench.overlay", *sys.argv[1:], "--inside"]
    return subprocess.run(["unshare", "-Urm", "--map-auto", "--", *program], check=False).returncode


def make_place(wanted: str) -> Path:
    """An empty directory there."""
    place = Path(tempfile.mkdtemp(prefix="sb-bench-", dir="/var/tmp" if wanted == _TMPFS else wanted))
    if wanted == _TMPFS:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    return place


def setting() -> None:
    """What programs in the rows find around them."""
    os.environ.update(GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="safe.directory", GIT_CONFIG_VALUE_0="*", LC_ALL="C")


def race(wanted: argparse.Namespace, place: Path) -> None:
    """Measure all rows, and print the tables."""
    sizes = rows.QUICK if wanted.quick else rows.FULL
    words = [word for word in wanted.rows.split(",") if word]
    chosen = [row for row in rows.rows(sizes) if not words or any(word in row.name for word in words)]
    named = [name for name in wanted.contestants.split(",") if name]
    entered = [each for each in CONTESTANTS if not named or each.name in named]
    rounds = wanted.rounds if wanted.quick else max(wanted.rounds, _FEWEST)
    trees.make(place / "trees", sizes, {row.tree for row in chosen})
    seconds = wanted.minutes * 60 / len(chosen) if wanted.minutes else math.inf
    outcomes = []
    for row in chosen:
        outcomes.append(measurement.measure(row, entered, place / "trees", place / "run", rounds, seconds))
        print(report.line(outcomes[-1]), file=sys.stderr)
    names = [each.name for each in entered]
    size = "a tenth of the full sizes, " if wanted.quick else ""
    setting = f"{size}on {_kind(wanted.place)}; {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
    title = f"Wall time in ms (over {BASELINE}'s), medians of up to {rounds} rounds, {setting}"
    table = report.table(outcomes, names)
    print(f"{title}\n\n{table}")
    serving = [each.name for each in entered if each.name == BASELINE or each.name.startswith(OURS)]
    print(f"\n{report.table(outcomes, serving, report.PROCESSOR)}\n{report.absences(outcomes)}")
    shown = [name for name in names if name != "bare"]
    drawn = picture.svg(outcomes, shown, f"time over {BASELINE}'s, on {_kind(wanted.place)}")
    if wanted.svg:
        wanted.svg.write_text(drawn)
    if wanted.readme:
        (_PICTURES / "overlay.svg").write_text(drawn)
        readme.put(_README, "overlay", f"{title}.\n\n{table}")


def grow(wanted: argparse.Namespace, place: Path) -> None:
    """Measure how cost grows, and print the table."""
    entered = [each for each in CONTESTANTS if each.name in (BASELINE, OURS)]
    measured = []
    for point in growth.points(entered, place, quick=wanted.quick and not wanted.readme):
        measured.append(point)
        print(f"{point.subject} {point.amount}: {point.contestant} {point.cost:.1f} µs", file=sys.stderr)
    table = growth.table(measured)
    print(table)
    drawn = plot.svg(measured, "µs for each file")
    if wanted.svg and not wanted.readme:
        wanted.svg.write_text(drawn)
    if wanted.readme:
        (_PICTURES / "growth.svg").write_text(drawn)
        readme.put(_README, "growth", f"{table}\n\n![The same as a picture](tests/bench/growth.svg)")


def compete(wanted: argparse.Namespace, place: Path) -> int:
    """Do what is wanted. Returns the exit status."""
    if wanted.check or wanted.record:
        return check.run(place, record=wanted.record)
    if wanted.readme or not wanted.growth:
        race(wanted, place)
    if wanted.readme or wanted.growth:
        shutil.rmtree(place / "trees", ignore_errors=True)
        grow(wanted, place)
    if wanted.readme:
        print(f"written: {_README.resolve()} and the pictures in {_PICTURES.resolve()}")
    return 0


def _kind(place: str) -> str:
    return _TMPFS if place == _TMPFS else "a disk"


def main() -> int:
    """Measure."""
    wanted = parse()
    if not wanted.inside:
        return enter()
    setting()
    place = make_place(wanted.place)
    try:
        return compete(wanted, place)
    finally:
        if wanted.place == _TMPFS:
            subprocess.run(["umount", "-l", place], check=False)
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
