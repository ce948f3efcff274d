"""Whether a sandbox wants more shares of the processors than it may have: who waits for something wants none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from rootless_sb import turns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST = 4
# By process: its session, and the states of its threads, the first one's first.
IDLE = [(number, "S") for number in range(10, 20)]
BUSY_IN_ONE_SESSION = [(10, "R")] * 10
BUSY_IN_SESSIONS = [(number, "R") for number in range(10, 15)]
FEW_BUSY = [(number, "R" if number < 10 + MOST else "D") for number in range(10, 20)]
THREADS = [(10, "SRRRRR")]
THREADS_IN_SESSIONS = [(number, "SSR") for number in range(10, 15)]
THREADS_IDLE = [(number, "SSS") for number in range(10, 20)]


def describe(place: Path, pid: int, session: int, state: str, threads: int) -> None:
    """Write what proc_pid_stat(5) says."""
    place.mkdir(parents=True)
    (place / "stat").write_text(f"{pid} (a (b) c) {state} 1 1 {session} {'0 ' * 13}{threads} 0 0\n")


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[turns.Watch]:
    """One that looks at a directory in place of the sandbox's /proc."""
    watch = turns.Watch(os.getpid(), MOST, -1)
    os.close(watch._proc)
    watch._proc = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    yield watch
    watch.close()


@pytest.mark.parametrize(
    ("there", "by_session", "by_thread"),
    [
        (IDLE, False, False),
        (BUSY_IN_ONE_SESSION, False, True),
        (BUSY_IN_SESSIONS, True, True),
        (FEW_BUSY, False, False),
        (THREADS, False, True),
        (THREADS_IN_SESSIONS, True, True),
        (THREADS_IDLE, False, False),
    ],
)
def test_who_wants_to_run_counts(
    watch: turns.Watch, tmp_path: Path, there: list[tuple[int, str]], by_session: bool, by_thread: bool
) -> None:
    """By session where the kernel shares the processors so, else by thread."""
    for number, (session, states) in enumerate(there):
        pid = 100 + 10 * number
        describe(tmp_path / str(pid), pid, session, states[0], len(states))
        for thread, state in enumerate(states):
            describe(tmp_path / str(pid) / "task" / str(pid + thread), pid + thread, session, state, len(states))
    for watch._by_session, crowded in ((True, by_session), (False, by_thread)):
        assert crowded == watch._is_crowded()
