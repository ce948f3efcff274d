"""How cost grows, as a picture (SVG): a plot for each subject, both axes logarithmic, a line for each contestant."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from tests.bench.drawing import Drawing
from tests.bench.overlaying.picture import COLOURS, TOP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.overlaying.growth import Point

_SIDE = 200
_MARGIN = 60


class _Plot(NamedTuple):
    """Where a plot is: its left edge, and what its axes begin and end with, as powers of ten."""

    left: float
    first: float
    last: float
    low: float
    high: float

    def x(self, amount: float) -> float:
        """Where an amount is."""
        return self.left + _SIDE * (math.log10(amount) - self.first) / ((self.last - self.first) or 1)

    def y(self, cost: float) -> float:
        """Where a cost is."""
        return TOP + _SIDE * (self.high - math.log10(cost)) / (self.high - self.low)


def svg(points: Sequence[Point], title: str) -> str:
    """The picture."""
    names = list(dict.fromkeys(each.contestant for each in points))
    subjects = list(dict.fromkeys(each.subject for each in points))
    low = math.floor(min(math.log10(each.cost) for each in points))
    high = math.floor(max(math.log10(each.cost) for each in points)) + 1
    drawing = Drawing(len(subjects) * (_SIDE + _MARGIN) + 20, TOP + _SIDE + 45, title)
    drawing.keys(COLOURS, names)
    for number, subject in enumerate(subjects):
        shown = [each for each in points if each.subject == subject]
        amounts = sorted({each.amount for each in shown})
        left = _MARGIN - 10 + number * (_SIDE + _MARGIN)
        plot = _Plot(left, math.log10(amounts[0]), math.log10(amounts[-1]), low, high)
        _axes(drawing, plot, amounts, subject)
        for colour, name in zip(COLOURS, names, strict=False):
            drawing.way([(plot.x(p.amount), plot.y(p.cost)) for p in shown if p.contestant == name], colour)
    return drawing.text()


def _axes(drawing: Drawing, plot: _Plot, amounts: Sequence[int], subject: str) -> None:
    for power in range(int(plot.low), int(plot.high) + 1):
        y = plot.y(10.0**power)
        drawing.across(plot.left, y, _SIDE)
        drawing.words(plot.left - 4, y + 3, f"{10.0**power:g}", 9, "end")
    for amount in amounts:
        drawing.words(plot.x(amount), TOP + _SIDE + 13, f"{amount:,}", 9, "middle")
    drawing.words(plot.left + _SIDE / 2, TOP + _SIDE + 30, subject, 11, "middle")
