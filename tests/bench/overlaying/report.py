"""The results as tables."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from tests.bench.overlaying.contestants import BASELINE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.overlaying.measurement import Outcome


def median(outcome: Outcome, contestant: str) -> float | None:
    """The median time of a contestant, in milliseconds; None if it has none."""
    samples = outcome.samples.get(contestant)
    return statistics.median(sample.time for sample in samples) if samples else None


def ratio(outcome: Outcome, contestant: str, other: str = BASELINE) -> float | None:
    """The median time of a contestant over another one's; None if either has none."""
    time, base = median(outcome, contestant), median(outcome, other)
    return time / base if time is not None and base else None


def geometric_mean(outcomes: Sequence[Outcome], contestant: str, other: str = BASELINE) -> float | None:
    """The geometric mean of the ratios of all rows that both have."""
    ratios = [each for outcome in outcomes if (each := ratio(outcome, contestant, other)) is not None]
    return math.exp(statistics.mean(map(math.log, ratios))) if ratios else None


def _shown(number: float | None, form: str) -> str:
    return "-" if number is None else format(number, form)


def table(outcomes: Sequence[Outcome], names: Sequence[str]) -> str:
    """A table in Markdown: medians in ms, and in parentheses over the baseline's."""
    lines = [f"| | {' | '.join(names)} |", f"| --- |{' ---: |' * len(names)}"]
    for outcome in outcomes:
        cells = (f"{_shown(median(outcome, name), '.0f')} ({_shown(ratio(outcome, name), '.2f')})" for name in names)
        lines.append(f"| {outcome.row} | {' | '.join(cells)} |")
    means = (_shown(geometric_mean(outcomes, name), ".2f") for name in names)
    lines.append(f"| geometric mean of the ratios | {' | '.join(means)} |")
    return "\n".join(lines)


def absences(outcomes: Sequence[Outcome]) -> str:
    """A line for each contestant that has no result in a row, with the reason."""
    return "\n".join(
        f"{outcome.row}: {name} is missing: {reason}"
        for outcome in outcomes
        for name, reason in outcome.missing.items()
    )


def line(outcome: Outcome) -> str:
    """One row, as soon as it is measured."""
    times = (
        f"{name} {_shown(median(outcome, name), '.0f')} ({_shown(ratio(outcome, name), '.2f')})"
        for name in outcome.samples
    )
    return f"{outcome.row}: {', '.join(times)} {outcome.missing or ''}"
