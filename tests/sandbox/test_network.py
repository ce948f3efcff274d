"""The network of a sandbox: loopback, and what root expects to be able to do with it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from tests.sandbox.running import python

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


def test_loopback_and_nothing_else(sb: Sandboxes) -> None:
    """lo is the only interface, and it is up: TCP over IPv4 and, where the host has it, over IPv6."""
    script = """
        import socket
        print(*(name for _, name in socket.if_nameindex()))
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            if family == socket.AF_INET6 and not open("/proc/net/if_inet6").read():
                continue
            with socket.create_server((address, 0), family=family) as server:
                with socket.create_connection(server.getsockname()[:2]) as client:
                    client.sendall(b"hello")
                    print(server.accept()[0].recv(5))
        """
    name, *greetings = python(sb, script)
    assert ("lo", {"b'hello'"}) == (name, set(greetings))
    assert len(greetings) == (2 if os.path.exists("/proc/net/if_inet6") and open_ipv6() else 1)


def open_ipv6() -> bool:
    """Whether this host has IPv6 on its loopback."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_ip_shows_loopback(sb: Sandboxes, program: Callable[[str], Path]) -> None:
    """ip(8) lists one link, in state UP."""
    lines = sb(str(program("ip")), "-o", "link").stdout.splitlines()
    assert 1 == len(lines)
    assert "lo: <LOOPBACK,UP,LOWER_UP>" in lines[0]


def test_the_hosts_servers_are_out_of_reach(sb: Sandboxes, tmp_path: Path) -> None:
    """A TCP server and an abstract and a named Unix socket of the host can't be reached; from outside they can."""
    abstract = f"\0sb-test-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as named,
        socket.socket(socket.AF_UNIX) as unnamed,
    ):
        named.bind(str(tmp_path / "socket"))
        unnamed.bind(abstract)
        named.listen()
        unnamed.listen()
        script = f"""
            import socket
            for family, address in (
                (socket.AF_INET, {tcp.getsockname()!r}),
                (socket.AF_UNIX, {str(tmp_path / "socket")!r}),
                (socket.AF_UNIX, {abstract!r}),
            ):
                with socket.socket(family) as client:
                    print(client.connect_ex(address) != 0)
            """
        assert ["True"] * 3 == python(sb, script)
        for family, address in (
            (socket.AF_INET, tcp.getsockname()),
            (socket.AF_UNIX, str(tmp_path / "socket")),
            (socket.AF_UNIX, abstract),
        ):
            with socket.socket(family) as client:
                assert 0 == client.connect_ex(address)


def test_there_is_no_way_out(sb: Sandboxes) -> None:
    """No address beyond loopback has a route."""
    script = """
        import errno, socket
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            print(errno.errorcode[client.connect_ex(("192.0.2.1", 9))])
        """
    assert ["ENETUNREACH"] == python(sb, script)


def test_low_ports(sb: Sandboxes) -> None:
    """Ports below 1024 can be bound."""
    script = """
        import socket
        for port in (1, 80, 443):
            with socket.create_server(("127.0.0.1", port)) as server:
                print(server.getsockname()[1])
        """
    assert ["1", "80", "443"] == python(sb, script)


def test_icmp_sockets(sb: Sandboxes) -> None:
    """An echo request over an ICMP datagram socket is answered."""
    script = """
        import socket
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as client:
            client.settimeout(10)
            client.sendto(bytes((8, 0, 0, 0, 0, 0, 0, 1)) + b"payload", ("127.0.0.1", 0))
            print(client.recv(100)[8:])
        """
    assert ["b'payload'"] == python(sb, script)


def test_ping(sb: Sandboxes, program: Callable[[str], Path]) -> None:
    """ping(8) of 127.0.0.1 and of the sandbox's own name is answered."""
    path = program("ping")
    result = sb("sh", "-c", f"{path} -c 1 -W 10 127.0.0.1 && {path} -c 1 -W 10 $(uname -n)")
    assert (0, 2) == (result.returncode, result.stdout.count(" 0% packet loss"))
