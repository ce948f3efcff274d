"""Where the time of `sb run -- true` goes: its phases from the caller's first system call to its exit status."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from typing import TYPE_CHECKING, TypeAlias

from rootless_sb import phases
from tests.bench.drawing import Drawing
from tests.measuring import SB

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Phases: TypeAlias = "dict[str, float]"  # milliseconds each, in order

_PATIENCE = 30.0  # seconds
_LABELS = 90
_BAR = 26
_GAP = 14
_TOP = 74
_WIDTH = 760
_IN_A_ROW = 8
_COLOURS = (
    "#5f6368", "#b39ddb", "#2f6fdb", "#64b5f6", "#90caf9", "#00897b", "#43a047", "#9ccc65", "#e8a33d", "#ffca28",
    "#ff8a65", "#d84315", "#9aa0a6",
)  # fmt: skip
_OTHERS = "#c4c7c5"
_END = "run and end"  # the command itself, and all until `sb run` has ended


def observe(option: str) -> Phases:
    """Run `sb run OPTION -- true` and look at the clock."""
    reader, writer = os.pipe()
    begin = time.monotonic()
    command = [str(SB), "run", "-q", option, "--status-fd", str(writer), "--", "true"]
    quiet = subprocess.DEVNULL
    subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, pass_fds=[writer], check=True)
    whole = (time.monotonic() - begin) * 1000
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        started = json.loads(file.readline())
    found: Phases = started["phases"]
    found[phases.PYTHON] = (started["began"] - begin) * 1000  # more than what took the processor's time
    return {**found, _END: whole - sum(found.values())}


def wait_for_agent() -> None:
    """Have an agent be there."""
    deadline = time.monotonic() + _PATIENCE
    while phases.AGENT not in observe("--agent"):
        assert time.monotonic() < deadline, "no agent has come"
        time.sleep(0.1)


def median(observed: Iterable[Phases]) -> Phases:
    """Of each phase the median."""
    runs = list(observed)
    return {name: statistics.median(run.get(name, 0.0) for run in runs) for name in runs[0]}


def table(bars: Mapping[str, Phases]) -> str:
    """A line for each phase, a column for each way to start."""
    names = _names(bars)
    lines = [f"{'':20} {' '.join(f'{way:>12}' for way in bars)}"]
    for name in names:
        cells = (f"{bar[name]:12.1f}" if name in bar else f"{'-':>12}" for bar in bars.values())
        lines.append(f"{name:20} {' '.join(cells)}")
    return "\n".join(lines)


def _names(bars: Mapping[str, Phases]) -> list[str]:
    """All phases in their order: that of the way with the most."""
    return list(dict.fromkeys(name for bar in sorted(bars.values(), key=len, reverse=True) for name in bar))


def svg(bars: Mapping[str, Phases], others: Mapping[str, float]) -> str:
    """The picture: sb's phases one after another, and beneath them how long others took in all."""
    names = _names(bars)
    colours = dict(zip(names, _COLOURS, strict=False))
    wholes = {**{way: sum(bar.values()) for way, bar in bars.items()}, **others}
    unit = (_WIDTH - _LABELS - 70) / max(wholes.values())
    height = _TOP + len(wholes) * (_BAR + _GAP)
    drawing = Drawing(_WIDTH, height, "from nothing to the end of `true`, and where the time goes")
    for number, name in enumerate(names):
        drawing.key(8 + number % _IN_A_ROW * 94, 26 + number // _IN_A_ROW * 18, colours[name], name)
    for number, (way, whole) in enumerate(wholes.items()):
        top = _TOP + number * (_BAR + _GAP)
        drawing.words(_LABELS - 8, top + _BAR / 2 + 4, way, 12, "end")
        left = float(_LABELS)
        for name, length in bars.get(way, {"": whole}).items():
            drawing.bar(left, top, length * unit, _BAR, colours.get(name, _OTHERS))
            left += length * unit
        drawing.words(left + 5, top + _BAR / 2 + 4, f"{whole:.0f} ms", 11)
    return drawing.text()
