"""How often a sandbox's memory is looked at."""

from __future__ import annotations

from rootless_sb import memory


def test_the_less_is_left_the_sooner() -> None:
    """Nothing is used up before the next look, as fast as memory can be filled; and none is asked all day."""
    assert 5.0 == memory.pause(100_000_000_000, 0.0)
    assert 1.0 == memory.pause(2_000_000_000, 0.0)
    assert 0.1 == memory.pause(0, 0.0)


def test_looking_is_not_to_be_noticed() -> None:
    """What takes long is done seldom."""
    assert 20.0 == memory.pause(0, 1.0)
