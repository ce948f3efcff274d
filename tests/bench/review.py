"""How long it takes to look at what a sandbox changed and to take it over, beside rsync; and `sb try` beside `sb run`.

    contrib/bench review [--rounds N] [--files N]

`sb diff` and `sb apply` together, of new files and of files that each got a line more, against `rsync -a` bringing the
same to the same tree. Asserts nothing: only the ratios travel.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests import measuring
from tests.measuring import FEWEST_ROUNDS, SB, Contestant, Result

_IN_EACH = 200  # files in a directory
_RSYNC, _REVIEW = "rsync -a", "sb diff, sb apply"


def make_tree(place: Path, files: int) -> None:
    """Small files, some hundred in a directory."""
    for number in range(files):
        directory = place / str(number // _IN_EACH)
        if number % _IN_EACH == 0:
            directory.mkdir(parents=True)
        (directory / str(number)).write_text(f"the file {number}\n" * 20)


def change(tree: Path) -> None:
    """A line more in each file."""
    for path in tree.rglob("*"):
        if path.is_file():
            with path.open("a") as file:
                file.write("one more\n")


def seconds(*command: str | Path) -> float:
    """The wall time of a command."""
    begin = time.perf_counter()
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def once(place: Path, before: Path | None, after: Path, number: int) -> dict[str, float]:
    """Have both make the tree `after` of what was `before`, or of nothing; the seconds that each took.

    Neither they nor their targets are removed before all is measured, and they take turns in being first: after many
    files were removed, ext4 makes new ones slowly for minutes (`recently_deleted` in fs/ext4/ialloc.c). What there is
    before is on the disk, as files are that aren't of this very moment: to replace such a file takes longer than one
    that has no blocks yet, for both.
    """
    targets = {name: place / f"{name}-{number}" for name in ("host", "copy")}
    for target in targets.values():
        if before is not None:
            subprocess.run(["cp", "-a", before, target], check=True)
        else:
            target.mkdir()
    # What is done inside isn't measured. It writes over what is there: a file that is replaced is another one.
    script = f"cp -rT --no-preserve=mode {after} {targets['host']}"
    name = f"box-{number}"
    run = [str(SB), "run", "-q", "--name", name, "--", "sh", "-c", script]
    subprocess.run(run, stdin=subprocess.DEVNULL, check=True)
    contestants = {
        _RSYNC: lambda: seconds("rsync", "-a", f"{after}/", f"{targets['copy']}/"),
        _REVIEW: lambda: seconds(SB, "diff", name) + seconds(SB, "apply", name),
    }
    times = {}
    for contestant in sorted(contestants, reverse=number % 2 == 0):
        os.sync()
        times[contestant] = contestants[contestant]()
    return times


def compare(title: str, place: Path, before: Path | None, after: Path, numbers: range) -> str:
    """The table of both, a round for each number."""
    times = [once(place, before, after, number) for number in numbers]
    results = [Result(name, tuple(each[name] * 1000 for each in times)) for name in (_RSYNC, _REVIEW)]
    return f"{title}\n{measuring.table(results, [], _RSYNC)}\n"


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description="Measure sb diff, sb apply and sb try.")
    options.add_argument("--rounds", type=int, default=5, help="for the trees (default: 5)")
    options.add_argument("--files", type=int, default=20_000)
    wanted = options.parse_args()
    place = Path(tempfile.mkdtemp(prefix="sb-bench-", dir="/var/tmp"))
    os.environ["SB_DATA_HOME"] = str(place / "sb")
    try:
        print(f"wall time in ms, {wanted.rounds} rounds, {os.cpu_count()} processors\n")
        make_tree(place / "old", wanted.files)
        subprocess.run(["cp", "-a", place / "old", place / "new"], check=True)
        change(place / "new")
        first, second = range(wanted.rounds), range(wanted.rounds, 2 * wanted.rounds)
        print(compare(f"{wanted.files} new files", place, None, place / "new", first), flush=True)
        print(compare(f"{wanted.files} changed files", place, place / "old", place / "new", second), flush=True)
        run = Contestant("sb run true", (str(SB), "run", "true"))
        attempt = Contestant("sb try true", (str(SB), "try", "--discard", "true"))
        entered = [measuring.warm_up(each) for each in (run, attempt)]
        print(f"nothing changed\n{measuring.table(measuring.measure(entered, FEWEST_ROUNDS), [], run.name)}")
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
