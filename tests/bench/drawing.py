"""Pictures (SVG) of what benchmarks found: bars, words and lines, put down one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence


class Drawing:
    """One picture of a width and height in pixels, with a title; `text()` is the whole of it."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
        ]
        self.words(8, 16, title, 13)

    def bar(self, left: float, top: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle."""
        self._parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
        )

    def words(self, left: float, bottom: float, text: str, size: int, anchor: str = "start") -> None:
        """A line of text; `anchor`: which of its ends, or its middle, is at `left`."""
        place = f'x="{left:.1f}" y="{bottom:.1f}" font-size="{size}" text-anchor="{anchor}"'
        self._parts.append(f"<text {place}>{escape(text)}</text>")

    def upright(self, left: float, top: float, bottom: float) -> None:
        """A thin line from top to bottom."""
        ends = f'x1="{left:.1f}" y1="{top:.1f}" x2="{left:.1f}" y2="{bottom:.1f}"'
        self._parts.append(f'<line {ends} stroke="black" stroke-width="0.7"/>')

    def across(self, left: float, height: float, width: float) -> None:
        """A faint line from left to right."""
        self._parts.append(f'<path d="M{left:.1f} {height:.1f}h{width:.1f}" stroke="#ddd"/>')

    def way(self, points: Sequence[tuple[float, float]], colour: str) -> None:
        """A line from point to point."""
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')

    def keys(self, colours: Sequence[str], texts: Sequence[str]) -> None:
        """What some colours stand for, beneath the title."""
        for number, (colour, text) in enumerate(zip(colours, texts, strict=False)):
            self.key(8 + number * 130, 24, colour, text)

    def key(self, left: float, top: float, colour: str, text: str) -> None:
        """What a colour stands for."""
        self.bar(left, top, 10, 10, colour)
        self.words(left + 14, top + 9, text, 11)

    def text(self) -> str:
        """The picture, as a file holds it."""
        return "\n".join([*self._parts, "</svg>\n"])
