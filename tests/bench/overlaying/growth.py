"""How cost grows: with the number of files, of clients and of lower layers."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.bench.overlaying import measurement, rows, trees

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.overlaying.contestants import Contestant
    from tests.bench.overlaying.rows import Row

_FILES = (10_000, 100_000, 1_000_000)
_CLIENTS = (1, 4, 16, 64)
_LAYERS = (1, 10, 30, 100)
_FIND = rows.Row("find, cold", "files", "find . >/dev/null")


def report(entered: list[Contestant], place: Path, *, quick: bool) -> None:
    """Measure and print."""
    print("| | | ms | µs for each file | server's memory, MiB |\n| --- | --- | ---: | ---: | ---: |")
    for number in _FILES[: 2 if quick else 3]:
        _files(entered, place, number)
    number = 2_000 if quick else 20_000
    trees.make_files(_fresh(place / "trees/files"), number)
    for clients in _CLIENTS:
        _line(entered, place, rows.clients(clients), number, [place / "trees/files"], f"{clients} clients")
    for layers in _LAYERS:
        lowers = [_fresh(place / f"trees/layer{each}") for each in range(layers)]
        trees.make_files(lowers[-1], number)
        _line(entered, place, _FIND, number, lowers, f"{layers} layers")


def _files(entered: list[Contestant], place: Path, number: int) -> None:
    trees.make_files(_fresh(place / "trees/files"), number)
    _line(entered, place, _FIND, number, [place / "trees/files"], f"{number:,} files")


def _line(entered: list[Contestant], place: Path, row: Row, files: int, lowers: list[Path], what: str) -> None:
    for contestant in entered:
        sample = measurement.run(contestant, row, place / "trees", place / "run", lowers)
        cells = f"{sample.time:.0f} | {sample.time * 1000 / files:.1f} | {sample.memory / 1024:.0f}"
        print(f"| {what}: {row.name} | {contestant.name} | {cells} |", flush=True)


def _fresh(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path
