"""Whether the server looks for the next request again and again."""

from __future__ import annotations

from fuse_overlay.loop import Rhythm

SOON, LATE, WOKEN = 10_000, 5_000_000, 100_000  # nanoseconds


def heeding(rhythm: Rhythm, *taken: int) -> bool:
    """Whether it looks, after requests that took so long."""
    for each in taken:
        rhythm.heed(each)
    return rhythm.gap > 0


def test_it_looks_while_requests_come_soon() -> None:
    """A client that does one thing after another, and thinks now and then, is waited for awake."""
    assert heeding(Rhythm())
    assert heeding(Rhythm(), *([SOON] * 9 + [LATE]) * 20)


def test_it_sleeps_when_they_come_late() -> None:
    """Once requests are far between, looking for them is left, and stays left."""
    rhythm = Rhythm()
    assert not heeding(rhythm, *[LATE] * 4)
    assert not heeding(rhythm, *[SOON, LATE] * 100)


def test_it_looks_again_when_they_come_soon_again() -> None:
    """Whoever was woken learns of the next one later than it came; so that may take longer to count as soon."""
    rhythm = Rhythm()
    assert not heeding(rhythm, *[LATE] * 100)
    assert heeding(rhythm, *[WOKEN] * 17)
    assert heeding(rhythm, *[SOON] * 20)
