"""The first request of a mount: what is made of libfuse's reply to it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuse_overlay import initmessage
from fuse_overlay.initmessage import (
    AUTO_INVAL_DATA,
    CACHE_SYMLINKS,
    DONT_MASK,
    EXPLICIT_INVAL_DATA,
    HANDLE_KILLPRIV_V2,
    PARALLEL_DIROPS,
    POSIX_ACL,
    SETXATTR_EXT,
)

ASYNC_READ, WRITEBACK_CACHE = 1 << 0, 1 << 16
EVERYTHING = DONT_MASK | PARALLEL_DIROPS | POSIX_ACL | CACHE_SYMLINKS | HANDLE_KILLPRIV_V2 | EXPLICIT_INVAL_DATA


def request(flags: int, *, major: int = 7, opcode: int = 26, more: bytes = bytes(48)) -> bytes:
    """A FUSE_INIT request as Linux 6 sends it: with `more` empty, as Linux 4."""
    body = struct.pack("=IIII", major, 38, 131072, flags) + more
    return struct.pack("=IIQQIIIHH", 40 + len(body), opcode, 2, 0, 0, 0, 0, 0, 0) + body


def reply(flags: int, *, error: int = 0, major: int = 7) -> bytes:
    """libfuse's reply."""
    body = struct.pack("=IIIIHHIIHHI7I", major, 38, 131072, flags, 12, 9, 1 << 20, 1, 256, 0, 0, *range(7))
    return struct.pack("=IiQ", 16 + len(body), error, 2) + body


def flags_of(message: bytes) -> int:
    """The flags of a reply."""
    return int(struct.unpack_from("=I", message, 28)[0])


def test_what_the_kernel_offers_is_read() -> None:
    """From the requests of old and of new kernels."""
    assert EVERYTHING == initmessage.offered(request(EVERYTHING))
    assert DONT_MASK == initmessage.offered(request(DONT_MASK, more=b""))


@pytest.mark.parametrize(
    "strange", [b"", request(1)[:-1], request(1) + b"x", request(1, major=8), request(1, opcode=1), request(1)[:40]]
)
def test_a_strange_request_offers_nothing(strange: bytes) -> None:
    """Another request, another protocol or a message that isn't whole leaves all to libfuse."""
    assert 0 == initmessage.offered(strange)


def test_what_we_want_is_added() -> None:
    """Of what was offered, and libfuse's own choice stays, but for the one flag that excludes another."""
    asked = ASYNC_READ | WRITEBACK_CACHE | AUTO_INVAL_DATA
    changed = initmessage.amended(reply(asked), EVERYTHING | asked)
    assert ASYNC_READ | WRITEBACK_CACHE | EVERYTHING == flags_of(changed)
    assert reply(0) == changed[:28] + bytes(4) + changed[32:]


def test_more_is_wanted_where_it_can_be_had() -> None:
    """Longer requests are asked for if the kernel has them; what libfuse has asked for by itself is known."""
    assert SETXATTR_EXT == flags_of(initmessage.amended(reply(0), SETXATTR_EXT, SETXATTR_EXT))
    assert 0 == flags_of(initmessage.amended(reply(0), 0, SETXATTR_EXT))
    assert [SETXATTR_EXT, 0] == [initmessage.asked(reply(SETXATTR_EXT, error=error)) for error in (0, -5)]
    assert [0, 0] == [initmessage.asked(strange) for strange in (b"", reply(SETXATTR_EXT, major=8))]


def test_a_kernel_that_offers_nothing() -> None:
    """Nothing is asked that wasn't offered."""
    assert reply(ASYNC_READ | AUTO_INVAL_DATA) == initmessage.amended(reply(ASYNC_READ | AUTO_INVAL_DATA), 0)
    only = initmessage.amended(reply(AUTO_INVAL_DATA), PARALLEL_DIROPS | AUTO_INVAL_DATA)
    assert AUTO_INVAL_DATA | PARALLEL_DIROPS == flags_of(only)


@pytest.mark.parametrize("strange", [b"", reply(1)[:-1], reply(1, error=-71), reply(1, major=8), reply(1)[:16]])
def test_a_strange_reply_is_passed_on(strange: bytes) -> None:
    """An error, another protocol, or what isn't whole goes to the kernel as it is."""
    assert strange == initmessage.amended(strange, EVERYTHING)


@given(st.binary(max_size=120), st.integers(0, 2**32 - 1))
def test_any_bytes(message: bytes, flags: int) -> None:
    """Whatever comes, it is answered with a message of the same length."""
    initmessage.offered(message)
    assert len(message) == len(initmessage.amended(message, flags))
