"""Many sandboxes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sandbox.running import stdout_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Count
    from tests.sandbox.running import Sandboxes

PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) { int n = argc > 1 ? atoi(argv[1]) : 0; printf("%d\\n", n * n); return n; }
"""


def test_many_at_once(sb: Sandboxes, tmp_path: Path, count: Count, program: Callable[[str], Path]) -> None:
    """Each builds and runs a C program in the same directory and sees its own; all are right, nothing is left."""
    program("gcc")
    (tmp_path / "square.c").write_text(PROGRAM)
    script = 'gcc -D MINE=$1 -o square square.c && ls && exec ./square "$1"'
    numbers = range(1, count(8, 20) + 1)
    started = [sb.start("sh", "-c", script, "sh", str(number), directory=tmp_path) for number in numbers]
    for number, process in zip(numbers, started, strict=True):
        output, errors = process.communicate(timeout=300)
        assert (number, f"square\nsquare.c\n{number * number}\n") == (process.returncode, output.decode()), errors
    assert [] == sb.left_behind()
    assert ["square.c"] == [path.name for path in tmp_path.iterdir()]


def test_many_alive(sb: Sandboxes, count: Count) -> None:
    """Two hundred run at the same time, each with its own root and its own process 1; nothing is left."""
    script = 'echo "$$ $(cat /proc/sys/kernel/hostname)"; read line; echo "$line"'
    alive = [sb.start("-q", "-i", "--", "sh", "-c", script) for _ in range(count(12, 200))]
    seen = {stdout_until(process, b"\n") for process in alive}
    assert len(alive) == len(seen)
    for number, process in enumerate(alive):
        output, errors = process.communicate(f"{number}\n".encode(), timeout=300)
        assert (0, f"{number}\n".encode()) == (process.returncode, output), errors
    assert [] == sb.left_behind()
