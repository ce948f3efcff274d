"""Attack: services of the host by their sockets. Barriers: the network namespace, the overlay, Landlock."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.barriers.attackers import outside, require_landlock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sandbox.barriers.attackers import Attacker

CONNECT = """
    import socket
    print(outcome(socket.socket(socket.AF_UNIX).connect, {address!r}))
    """


def listen(address: str) -> socket.socket:
    """A service of the host's."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    return listener


@pytest.fixture
def abstract() -> Iterator[str]:
    """The address of a service with an abstract socket, which no file permission guards."""
    address = f"\0sb-test-{os.getpid()}"
    with listen(address):
        yield address


def test_abstract_sockets(attacker: Attacker, abstract: str) -> None:
    """An abstract socket of the host's isn't there inside."""
    assert ["ECONNREFUSED"] == attacker(CONNECT.format(address=abstract))
    assert ["done"] == outside(CONNECT.format(address=abstract))


def test_abstract_sockets_on_the_hosts_network(attacker: Attacker, abstract: str) -> None:
    """With the host's network Landlock keeps them away, and it is required there; only without both are they open."""
    require_landlock(6)
    assert ["EPERM"] == attacker(CONNECT.format(address=abstract), "--allow-degraded=net")
    both = ("--allow-degraded=net", "--allow-degraded=landlock")
    assert ["done"] == attacker(CONNECT.format(address=abstract), *both)


def test_sockets_in_the_file_system(attacker: Attacker, tmp_path: Path) -> None:
    """A socket of the host's in the file system is seen inside, and nobody listens there."""
    path = str(tmp_path / "service")
    with listen(path):
        assert ["ECONNREFUSED"] == attacker(CONNECT.format(address=path))
        assert ["done"] == outside(CONNECT.format(address=path))


def test_tcp(attacker: Attacker) -> None:
    """A service on the host's loopback interface isn't reached; one on the sandbox's own is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        script = f"""
            import socket
            print(outcome(socket.create_connection, {listener.getsockname()!r}))
            own = socket.create_server(("127.0.0.1", 0))
            print(outcome(socket.create_connection, own.getsockname()))
            """
        assert ["ECONNREFUSED", "done"] == attacker(script)
        assert ["done", "done"] == outside(script)
