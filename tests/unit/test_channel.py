"""Channels: what was sent is heard, however the sender has ended."""

from __future__ import annotations

import pytest

from rootless_sb.kernel import channel


@pytest.mark.parametrize("unread", [0, 1, 2])
def test_the_last_words_of_who_has_not_listened(unread: int) -> None:
    """Messages that came before the other end was closed are heard, even if it has left some of ours unread."""
    ours, theirs = channel.pair()
    for _ in range(unread):
        ours.send(b"ours")
    theirs.send(b"one")
    theirs.send(b"two")
    theirs.close()
    assert [b"one", b"two", b"", b""] == [ours.receive()[0] for _ in range(4)]
    ours.close()
