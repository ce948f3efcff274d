"""The results as tables."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, NamedTuple

from tests.bench.overlaying.contestants import BASELINE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.bench.overlaying.measurement import Outcome, Sample


class Measure(NamedTuple):
    """What of a sample is looked at."""

    name: str
    of: Callable[[Sample], float]


TIME = Measure("wall time", lambda sample: sample.time)
PROCESSOR = Measure("server's processor time", lambda sample: sample.processor)


def median(outcome: Outcome, contestant: str, measure: Measure = TIME) -> float | None:
    """The median of a contestant, in milliseconds; None if it has none."""
    samples = outcome.samples.get(contestant)
    return statistics.median(map(measure.of, samples)) if samples else None


def ratio(outcome: Outcome, contestant: str, measure: Measure = TIME, other: str = BASELINE) -> float | None:
    """The median of a contestant over another one's; None if either has none."""
    time, base = median(outcome, contestant, measure), median(outcome, other, measure)
    return time / base if time and base else None


def geometric_mean(outcomes: Sequence[Outcome], contestant: str, measure: Measure = TIME) -> float | None:
    """The geometric mean of the ratios of all rows that have one."""
    ratios = [each for outcome in outcomes if (each := ratio(outcome, contestant, measure)) is not None]
    return math.exp(statistics.mean(map(math.log, ratios))) if ratios else None


def _shown(number: float | None, form: str) -> str:
    return "-" if number is None else format(number, form)


def table(outcomes: Sequence[Outcome], names: Sequence[str], measure: Measure = TIME) -> str:
    """A table in Markdown: medians in ms, and in parentheses over the baseline's."""
    lines = [f"| {measure.name} | {' | '.join(names)} |", f"| --- |{' ---: |' * len(names)}"]
    for outcome in outcomes:
        cells = (
            f"{_shown(median(outcome, name, measure), '.0f')} ({_shown(ratio(outcome, name, measure), '.2f')})"
            for name in names
        )
        lines.append(f"| {outcome.row} | {' | '.join(cells)} |")
    means = (_shown(geometric_mean(outcomes, name, measure), ".2f") for name in names)
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
