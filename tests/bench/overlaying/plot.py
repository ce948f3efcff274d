"""How cost grows, as a picture (SVG): a plot for each subject, both axes logarithmic, a line for each contestant."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

from tests.bench.overlaying.picture import COLOURS, TOP, head

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
    parts = head(len(subjects) * (_SIDE + _MARGIN) + 20, TOP + _SIDE + 45, title, names)
    for number, subject in enumerate(subjects):
        shown = [each for each in points if each.subject == subject]
        amounts = sorted({each.amount for each in shown})
        left = _MARGIN - 10 + number * (_SIDE + _MARGIN)
        plot = _Plot(left, math.log10(amounts[0]), math.log10(amounts[-1]), low, high)
        parts += _axes(plot, amounts, subject)
        for colour, name in zip(COLOURS, names, strict=False):
            line = " ".join(f"{plot.x(p.amount):.1f},{plot.y(p.cost):.1f}" for p in shown if p.contestant == name)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return "\n".join([*parts, "</svg>\n"])


def _axes(plot: _Plot, amounts: Sequence[int], subject: str) -> list[str]:
    parts = []
    for power in range(int(plot.low), int(plot.high) + 1):
        y = plot.y(10.0**power)
        parts.append(f'<path d="M{plot.left} {y:.1f}h{_SIDE}" stroke="#ddd"/>')
        parts.append(_text(plot.left - 4, y + 3, f"{10.0**power:g}", 9, "end"))
    parts += [_text(plot.x(amount), TOP + _SIDE + 13, f"{amount:,}", 9) for amount in amounts]
    return [*parts, _text(plot.left + _SIDE / 2, TOP + _SIDE + 30, subject, 11)]


def _text(x: float, y: float, text: str, size: int, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
