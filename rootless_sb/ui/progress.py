"""How far layers are: a bar for each on a terminal, else a line for each that is done."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rootless_sb.ui import messages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from rootless_sb.image.adding import Progress

_DIGITS = 12  # of a digest, to show


@contextmanager
def shown(what: str, *, quiet: bool) -> Iterator[Progress]:
    """Somebody to tell of the layers' progress, for as long as it takes. `what`: what is done, in words."""
    if quiet:
        yield Silence()
    elif sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        with _rich(what) as bars:
            yield Bars(bars)
    else:
        yield Lines()


class Silence:
    """Tells nobody."""

    def layer(self, digest: str, size: int) -> None:
        """Nothing."""

    def fetched(self, digest: str, count: int) -> None:
        """Nothing."""

    def unpacking(self, digest: str, count: int) -> None:
        """Nothing."""

    def done(self, digest: str, *, was_there: bool) -> None:
        """Nothing."""


class Lines(Silence):
    """A line for each layer that is done."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}

    def layer(self, digest: str, size: int) -> None:
        """Note its size."""
        self._sizes[digest] = size

    def done(self, digest: str, *, was_there: bool) -> None:
        """Say so."""
        how = "already here" if was_there else messages.human_size(self._sizes.get(digest, 0))
        messages.say(f"layer {_short(digest)}: {how}")


class Bars(Silence):
    """A bar for each layer: its first half is the way here, its second half the unpacking."""

    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._sizes: dict[str, int] = {}

    def layer(self, digest: str, size: int) -> None:
        """Add a bar."""
        self._sizes[digest] = size
        self._tasks[digest] = self._bars.add_task(_short(digest), total=2 * max(size, 1), state="waiting")

    def fetched(self, digest: str, count: int) -> None:
        """Move it."""
        self._bars.update(self._tasks[digest], advance=count, state=messages.human_size(self._sizes[digest]))

    def unpacking(self, digest: str, count: int) -> None:
        """Move it."""
        self._bars.update(self._tasks[digest], completed=self._sizes[digest] + count, state="unpacking")

    def done(self, digest: str, *, was_there: bool) -> None:
        """Fill it."""
        state = "already here" if was_there else messages.human_size(self._sizes[digest])
        self._bars.update(self._tasks[digest], completed=2 * max(self._sizes[digest], 1), state=state)


def _rich(what: str) -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    class VisibleConsole(Console):
        """One that never hides the cursor: who presses Ctrl-C ends sb at once, and would be left without."""

        def show_cursor(self, show: bool = True) -> bool:
            return False

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    console = VisibleConsole(stderr=True, highlight=False)
    console.print(f"sb: {messages.printable(what)}", markup=False)
    return Progress(*columns, console=console)


def _short(digest: str) -> str:
    return digest.partition(":")[2][:_DIGITS]
