"""The results as a picture (SVG): a bar for each contestant in each row, as long as its time over the baseline's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.drawing import Drawing
from tests.bench.overlaying.contestants import BASELINE
from tests.bench.overlaying.report import ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.overlaying.measurement import Outcome

_LABELS = 230
_UNIT = 220  # pixels for a ratio of 1
_LONGEST = 2.2  # a longer bar is cut, and says how long it is
_BAR = 9
_GAP = 8
TOP = 46
COLOURS = ("#9aa0a6", "#5f6368", "#e8a33d", "#2f6fdb", "#8db4f5", "#3f9b6b")


def svg(outcomes: Sequence[Outcome], names: Sequence[str], title: str) -> str:
    """The picture. `names`: whose bars, in this order."""
    height = TOP + len(outcomes) * (_BAR * len(names) + _GAP) + 10
    drawing = Drawing(_LABELS + int(_UNIT * _LONGEST) + 60, height, title)
    drawing.keys(COLOURS, names)
    top = TOP
    for outcome in outcomes:
        drawing.words(_LABELS - 8, top + _BAR * len(names) // 2 + 4, outcome.row, 11, "end")
        for number, name in enumerate(names):
            _bar(drawing, ratio(outcome, name), top + number * _BAR, COLOURS[number])
        top += _BAR * len(names) + _GAP
    line = _LABELS + _UNIT
    drawing.upright(line, TOP - 4, height - 6)
    drawing.words(line, TOP - 7, f"{BASELINE} = 1", 10, "middle")
    return drawing.text()


def _bar(drawing: Drawing, length: float | None, top: int, colour: str) -> None:
    if length is not None:
        pixels = _UNIT * min(length, _LONGEST)
        drawing.bar(_LABELS, top, pixels, _BAR - 1, colour)
        drawing.words(_LABELS + pixels + 3, top + _BAR - 1, f"{length:.2f}", 8)
