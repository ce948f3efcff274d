"""What `sb exec` asks for arrives as it was asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rootless_sb import request
from rootless_sb.program import Target
from rootless_sb.protocol import ProtocolError

TEXT = some.binary().map(lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape"))
PLACE = some.none() | some.integers(-1, 2)
REQUESTS = some.builds(
    request.Request,
    target=some.builds(
        Target,
        arguments=some.lists(TEXT, max_size=4).map(tuple),
        environment=some.lists(some.tuples(TEXT, TEXT), max_size=4).map(tuple),
        directory=TEXT,
        umask=some.integers(0, 0o777),
        ignored_signals=some.lists(some.integers(1, 64), max_size=3).map(tuple),
        user=TEXT,
    ),
    standard=some.dictionaries(some.integers(0, 300), PLACE, max_size=5),
)


@given(REQUESTS)
def test_a_request_comes_through(wanted: request.Request) -> None:
    """What is packed is unpacked, bytes that aren't UTF-8 and empty texts included."""
    assert wanted == request.unpack(request.pack(wanted))


@pytest.mark.parametrize("data", [b"", b"1\0", b"x\0", b"1\0a\0" + b"0\0/\0" + b"0\0" * 2 + b"root\0x\0\0\0"])
def test_garbage_is_refused(data: bytes) -> None:
    """Too few texts, or a count that is none."""
    with pytest.raises(ProtocolError):
        request.unpack(data)
