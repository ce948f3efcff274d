"""Attack: garbage at the socket where `sb exec` connects. Barrier: nonsense is not heard, the rest goes on."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rootless_sb import request
from rootless_sb.protocol import ProtocolError
from tests.sandbox.running import PATIENCE, eventually, stdout_until

if TYPE_CHECKING:
    from tests.sandbox.running import Sandboxes

WORD = some.sampled_from(["0", "1", "-1", "2", "99999999", "9" * 5000, "x", "", "\udcff", "/"])


WORDS = some.lists(WORD, max_size=14).map(lambda words: "\0".join(words).encode("utf-8", "replace"))


@given(some.binary(max_size=100) | WORDS)
def test_any_request(data: bytes) -> None:
    """Any bytes are a request, or a ProtocolError."""
    try:
        found = request.unpack(data)
    except ProtocolError:
        return
    assert isinstance(found, request.Request)


@pytest.mark.parametrize(
    "message",
    [b"", b"\0", b"exec", b"exec\0more", b"signal\0999", b"signal\0x", b"started\0001", b"\xff" * 1000, b"signal\0-1"],
)
def test_pid_1_goes_on(sb: Sandboxes, message: bytes) -> None:
    """Whatever is sent to pid 1, with a descriptor of anything: the sandbox runs on, and lets the next one in."""
    box = sb.start("--name", "box", "--rm", "--", "sh", "-c", "echo ready; read line; echo end")
    stdout_until(box, b"ready\n")
    eventually(lambda: "running" in sb.command("ps").stdout)
    control = next(sb.layers.glob("*/control"))
    directory = os.open(control.parent, os.O_RDONLY)
    for descriptors in ([], [directory], [directory] * 4):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(f"/proc/self/fd/{directory}/control")
            socket.send_fds(connection, [message], descriptors)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(PATIENCE)
            while connection.recv(65536):
                pass
    os.close(directory)
    assert "still here\n" == sb.command("exec", "box", "echo", "still here").stdout
    assert b"end\n" == box.communicate(b"\n", timeout=PATIENCE)[0]
