"""The keys that leave an attached sandbox."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as some

from rootless_sb.detaching import DetachKeys


@given(some.binary(), some.lists(some.integers(0, 60)))
def test_the_keys_are_found_however_they_are_cut(typed: bytes, cuts: list[int]) -> None:
    """All before the keys is passed on, whatever pieces it comes in; a lone ctrl-p too, once something follows it."""
    keys = DetachKeys()
    places = [0, *sorted(cuts), len(typed)]
    passed = b"".join(keys.passed(typed[start:end]) for start, end in itertools.pairwise(places))
    if b"\x10\x11" in typed:
        assert (True, typed.partition(b"\x10\x11")[0]) == (keys.found, passed[: typed.index(b"\x10\x11")])
    else:
        assert (False, typed) == (keys.found, passed + keys.passed(b"x")[:-1])
