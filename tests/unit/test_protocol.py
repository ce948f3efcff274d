"""The messages between sb's processes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rootless_sb import protocol
from rootless_sb.errors import SbError

TEXTS = some.text(some.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(TEXTS, TEXTS, TEXTS, some.integers(0, 255))
def test_an_error_comes_through(what: str, why: str, hint: str, status: int) -> None:
    """An error is at its receiver what it was at its sender."""
    error = protocol.failure(protocol.decode(protocol.failed(SbError(what, why, hint, status))))
    assert (what, why, hint, status) == (error.what, error.why, error.hint, error.status)


@given(some.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    """Bytes are a message that encodes to the same bytes, or a ProtocolError."""
    try:
        message = protocol.decode(data)
    except protocol.ProtocolError:
        return
    assert data == protocol.encode(message.kind, *message.fields)


@pytest.mark.parametrize(("kind", "fields"), [("exited", ()), ("nonsense", ()), ("running", ("1\0002",))])
def test_what_cannot_be_said(kind: str, fields: tuple[str, ...]) -> None:
    """A wrong number of fields, an unknown kind or a NUL in a field is the sender's mistake."""
    with pytest.raises(protocol.ProtocolError):
        protocol.encode(kind, *fields)
