"""The results as a picture (SVG): a bar for each contestant in each row, as long as its time over the baseline's."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

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
    width = _LABELS + int(_UNIT * _LONGEST) + 60
    line = _LABELS + _UNIT
    parts = head(width, height, title, names)
    top = TOP
    for outcome in outcomes:
        middle = top + _BAR * len(names) // 2 + 4
        parts.append(
            f'<text x="{_LABELS - 8}" y="{middle}" font-size="11" text-anchor="end">{escape(outcome.row)}</text>'
        )
        for number, name in enumerate(names):
            parts += _bar(ratio(outcome, name), top + number * _BAR, COLOURS[number])
        top += _BAR * len(names) + _GAP
    parts.append(f'<line x1="{line}" y1="{TOP - 4}" x2="{line}" y2="{height - 6}" stroke="black" stroke-width="0.7"/>')
    parts.append(f'<text x="{line}" y="{TOP - 7}" font-size="10" text-anchor="middle">{BASELINE} = 1</text>')
    return "\n".join([*parts, "</svg>\n"])


def head(width: int, height: int, title: str, names: Sequence[str]) -> list[str]:
    """The beginning of a picture: its title, and whose colour is which."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="8" y="16" font-size="13">{escape(title)}</text>',
    ]
    for number, name in enumerate(names):
        left = 8 + number * 130
        parts.append(f'<rect x="{left}" y="24" width="10" height="10" fill="{COLOURS[number]}"/>')
        parts.append(f'<text x="{left + 14}" y="33" font-size="11">{escape(name)}</text>')
    return parts


def _bar(length: float | None, top: int, colour: str) -> list[str]:
    if length is None:
        return []
    pixels = round(_UNIT * min(length, _LONGEST), 1)
    return [
        f'<rect x="{_LABELS}" y="{top}" width="{pixels}" height="{_BAR - 1}" fill="{colour}"/>',
        f'<text x="{_LABELS + pixels + 3}" y="{top + _BAR - 1}" font-size="8">{length:.2f}</text>',
    ]

