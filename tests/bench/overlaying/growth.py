"""How cost grows: with the number of files, of clients and of lower layers."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, NamedTuple

from tests.bench.overlaying import measurement, rows, trees

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.bench.overlaying.contestants import Contestant
    from tests.bench.overlaying.rows import Row

_FILES = (10_000, 100_000, 1_000_000)
_CLIENTS = (1, 4, 16, 64)
_LAYERS = (1, 10, 30, 100)
_FIND = rows.Row("find, cold", "files", "find . >/dev/null")


class Point(NamedTuple):
    """What a contestant took for so many of something: µs for each file, and the server's memory in MiB.

    `subject`: of what, and what was done.
    """

    subject: str
    amount: int
    contestant: str
    cost: float
    memory: float


def points(entered: Sequence[Contestant], place: Path, *, quick: bool) -> Iterator[Point]:
    """Measure, one point after another."""
    tree = place / "trees/files"
    for number in _FILES[: 2 if quick else 3]:
        trees.make_files(_fresh(tree), number)
        yield from _measured(entered, place, _FIND, number, [tree], ("find, cold: files", number))
    number = 2_000 if quick else 20_000
    trees.make_files(_fresh(tree), number)
    for clients in _CLIENTS:
        subject = ("grep -r: clients at once", clients)
        yield from _measured(entered, place, rows.clients(clients), number, [tree], subject)
    for layers in _LAYERS:
        lowers = [_fresh(place / f"trees/layer{each}") for each in range(layers)]
        trees.make_files(lowers[-1], number)
        yield from _measured(entered, place, _FIND, number, lowers, ("find, cold: lower layers", layers))


def table(measured: Sequence[Point]) -> str:
    """A table in Markdown."""
    names = list(dict.fromkeys(each.contestant for each in measured))
    heads = [f"{name}, {what}" for what in ("µs a file", "MiB") for name in names]
    lines = [f"| | | {' | '.join(heads)} |", f"| --- | ---: |{' ---: |' * len(heads)}"]
    for subject, amount in dict.fromkeys((each.subject, each.amount) for each in measured):
        found = {each.contestant: each for each in measured if (each.subject, each.amount) == (subject, amount)}
        cells = [f"{found[name].cost:.1f}" for name in names] + [f"{found[name].memory:.0f}" for name in names]
        lines.append(f"| {subject} | {amount:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _measured(
    entered: Sequence[Contestant], place: Path, row: Row, files: int, lowers: list[Path], subject: tuple[str, int]
) -> Iterator[Point]:
    for contestant in entered:
        sample = measurement.run(contestant, row, place / "trees", place / "run", lowers)
        yield Point(*subject, contestant.name, sample.time * 1000 / files, sample.memory / 1024)


def _fresh(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path
