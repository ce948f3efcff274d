"""Measuring: every row by every contestant in turn, round after round."""

from __future__ import annotations

import math
import os
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.bench.overlaying import contestants

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.bench.overlaying.contestants import Contestant
    from tests.bench.overlaying.rows import Row


FEWEST = 3


class Sample(NamedTuple):
    """One run: wall time and the server's processor time in milliseconds, and its resident memory after it in KiB."""

    time: float
    processor: float
    memory: int


class Outcome(NamedTuple):
    """All runs of one row, by contestant. `missing`: why others have none."""

    row: str
    samples: dict[str, list[Sample]]
    missing: dict[str, str]


def run(contestant: Contestant, row: Row, trees: Path, place: Path, lowers: list[Path]) -> Sample:
    """Measure once. Raises OSError and subprocess.CalledProcessError."""
    os.environ.update(TREES=str(trees), LOWER=str(lowers[0]))
    mounted = contestants.mount(contestant, lowers, place, row.before, writes=row.writes)
    try:
        if row.prepare:
            _shell(row.prepare, mounted.merged)
        before = contestants.processor_time(mounted)
        begin = time.perf_counter()
        _shell(row.command, mounted.merged)
        taken = (time.perf_counter() - begin) * 1000
        spent = contestants.processor_time(mounted) - before
        memory = contestants.memory(mounted)
    finally:
        contestants.unmount(mounted, place)
    return Sample(taken, spent, memory)


def measure(
    row: Row, entered: Iterable[Contestant], trees: Path, place: Path, rounds: int, seconds: float = math.inf
) -> Outcome:
    """Measure a row. Who fails once is out, with the reason; in the first round of several nobody's time is taken.

    No round begins after so many seconds, but for the first FEWEST.
    """
    outcome = Outcome(row.name, {each.name: [] for each in entered}, {})
    end = time.monotonic() + seconds
    for number in range(rounds + 1):
        if number > FEWEST and time.monotonic() > end:
            break
        for contestant in entered:
            if contestant.name in outcome.missing:
                continue
            try:
                sample = run(contestant, row, trees, place / contestant.name.replace(" ", "-"), [trees / row.tree])
            except (OSError, subprocess.SubprocessError) as error:
                outcome.missing[contestant.name] = _reason(error)
                outcome.samples.pop(contestant.name)
                continue
            if number:
                outcome.samples[contestant.name].append(sample)
    return outcome


def _shell(script: str, where: Path) -> None:
    subprocess.run(
        ["sh", "-euc", script], cwd=where, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def _reason(error: Exception) -> str:
    said = getattr(error, "stderr", None)
    lines = said.decode(errors="replace").strip().splitlines() if said else []
    return lines[-1] if lines else str(error)
