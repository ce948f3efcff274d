"""Whether it has become slower: the time of small rows over the baseline's, beside what is on record.

A machine that does other things at the same time spoils a ratio now and then, so only a row that is spoilt three times
in a row counts, and only beyond twice the record; and the next attempt waits a while for the machine to be quiet.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.overlaying import measurement, rows, trees
from tests.bench.overlaying.contestants import BASELINE, CONTESTANTS, OURS

if TYPE_CHECKING:
    from tests.bench.overlaying.rows import Row

RECORD = Path(__file__).with_name("ratios.json")

_REPEATS = 3
_TOO_MUCH = 2
_LOOKS, _BETWEEN = 20, 0.5  # how often to look whether others want a processor, and seconds from look to look
_SIZES = rows.Sizes(files=1_000, unpacked=500, copied=100, calls=500, large=16)
_ROWS = (
    "find, cold", "ls -lR, cold", "stat, half of them missing", "grep -r, cold", "grep -r, warm", "git status", "untar",
    "rm -rf, lower", "rm -rf, upper", "git clone", "copy-up, small files", "write in sequence",
    "read in sequence, lower", "appends to a log", "sqlite, no fsync",
)  # fmt: skip


def run(place: Path, *, record: bool) -> int:
    """Print the ratios, or record them. Returns the exit status: 1 if something has become slower."""
    chosen = [row for row in rows.rows(_SIZES) if row.name in _ROWS]
    trees.make(place / "trees", _SIZES, {row.tree for row in chosen})
    known = json.loads(RECORD.read_text()) if RECORD.exists() and not record else {}
    slower = []
    for row in chosen:
        limit = None if record else _TOO_MUCH * known[row.name]
        ratios = _ratios(row, place, limit)
        if record:
            known[row.name] = round(statistics.median(ratios), 2)
        elif limit is not None and min(ratios) > limit:
            slower.append(row.name)
        print(f"{row.name}: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; on record {known[row.name]:.2f}")
    if record:
        RECORD.write_text(json.dumps(known, indent=1) + "\n")
    for name in slower:
        print(f"slower than on record: {name}")
    return 1 if slower else 0


def _ratios(row: Row, place: Path, limit: float | None) -> list[float]:
    """The ratios of a row's repeats: no more are made when one is within the limit."""
    entered = [each for each in CONTESTANTS if each.name in (BASELINE, OURS)]
    ratios: list[float] = []
    for _ in range(_REPEATS):
        times = {
            each.name: measurement.run(each, row, place / "trees", place / "run", [place / "trees" / row.tree]).time
            for each in entered
        }
        ratios.append(times[OURS] / times[BASELINE])
        if limit is not None and ratios[-1] <= limit:
            break
        _wait_for_quiet()
    return ratios


def _wait_for_quiet() -> None:
    """Wait until nobody but this process wants a processor, for some seconds at most."""
    for _ in range(_LOOKS):
        time.sleep(_BETWEEN)
        running = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0])  # proc_loadavg(5)
        if running <= 1:
            return
