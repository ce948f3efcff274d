"""What registries answer now and then, or to do harm: each is gone on with, or refused in one line."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.images.archives import Member, archive
from tests.images.registries import PASSWORD, USER, Unreliable, own_name
from tests.images.serving import Handler, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.images.conftest import Images
    from tests.images.layouts import Layout


@pytest.fixture
def name(layout: Layout, unreliable: Unreliable) -> str:
    """The name of an image there."""
    layout.image([archive(Member("f", os.urandom(100_000)))], "x")
    return f"{unreliable.host}/x:1"


class _Noting(Handler):
    owner: Other

    def get(self) -> None:
        self.owner.seen.append((self.path, self.headers.get("Authorization", "")))
        if self.owner.blobs is not None and "/blobs/" in self.path:
            self.answer(200, (self.owner.blobs / self.path.rpartition(":")[2]).read_bytes())
        else:
            self.answer(404, b"")


class Other(Server):
    """Another host, to which a registry may send; notes who asked for what. It has the blobs of a layout."""

    def __init__(self, layout: Path | None = None) -> None:
        self.seen: list[tuple[str, str]] = []
        self.blobs = layout / "blobs/sha256" if layout is not None else None
        super().__init__(_Noting)


@pytest.fixture
def other(layout: Layout) -> Iterator[Other]:
    """Another host, which has the layout's blobs."""
    made = Other(layout.path)
    yield made
    made.close()


def asks(host: str, challenge: str) -> Callable[[Handler], bool]:
    """Answer everything but the token server's address with 401."""

    def answer(handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            handler.answer(200, b'{"token": "worthless"}')
        else:
            handler.answer(401, b"", [("WWW-Authenticate", challenge.format(host))] if challenge else ())
        return True

    return answer


@pytest.mark.parametrize(
    ("challenge", "why"),
    [
        ('Bearer realm="http://{}/token",service="x"', "no access to"),
        ('Basic realm="x"', "no access to"),
        ("", "no access to"),
        ("Negotiate", "a kind of credentials that sb doesn't know"),
        ('Bearer realm="http://[::1/token"', "cannot reach"),
        ('Bearer realm="ftp://x/token"', "cannot reach"),
        ("Bearer realm=", "a kind of credentials that sb doesn't know"),
    ],
)
def test_a_registry_that_asks_for_ever(
    images: Images, unreliable: Unreliable, name: str, challenge: str, why: str
) -> None:
    """401 for whatever one says: it is asked a few times, and then refused."""
    images.login(unreliable.host, USER, PASSWORD)
    unreliable.instead = asks(unreliable.host, challenge)
    assert why in images.refused("pull", name)
    assert len(unreliable.requests) < 10


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, b'{"token": "cut o', "cannot understand the token server's answer"),
        (200, b"<html>", "cannot understand the token server's answer"),
        (200, b"[]", "it is not an object of JSON"),
        (200, b"{}", "gave no token"),
        (200, b'{"token": "two\\r\\nlines"}', "gave no token"),
        (200, b'{"token": 5}', "gave no token"),
        (200, b" " * (2 << 20), "is too long"),
        (404, b"", "answers 404"),
        (401, b"", "no access to"),
    ],
)
def test_token_servers(
    images: Images, unreliable: Unreliable, name: str, status: int, body: bytes, why: str
) -> None:
    """What they answer besides tokens."""

    def answer(handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            handler.answer(status, body)
        else:
            realm = f'Bearer realm="http://{unreliable.host}/token",service="x"'
            handler.answer(401, b"", [("WWW-Authenticate", realm)])
        return True

    unreliable.instead = answer
    assert why in images.refused("pull", name)


def test_credentials_stay_with_the_registry(
    images: Images, layout: Layout, unreliable: Unreliable, name: str, other: Other
) -> None:
    """A registry that sends to another host for its blobs, as large ones do, has the credentials; that host hasn't."""
    images.login(unreliable.host, USER, PASSWORD)
    logins: list[str] = []

    def answer(handler: Handler) -> bool:
        login = handler.headers.get("Authorization", "")
        if not login:
            handler.answer(401, b"", [("WWW-Authenticate", "Basic realm=x")])
        elif "/blobs/" in handler.path:
            logins.append(login)
            handler.answer(307, b"", [("Location", f"http://{other.host}{handler.path}")])
        return not login or "/blobs/" in handler.path

    unreliable.instead = answer
    images.image("pull", name)
    assert {name} == images.names()
    assert (2, [""] * 2) == (len(logins), [login for _, login in other.seen])
    assert all(login.startswith("Basic ") for login in logins)


def test_redirects_without_end(images: Images, unreliable: Unreliable, name: str) -> None:
    """They are followed for a while."""

    def answer(handler: Handler) -> bool:
        if "/manifests/" in handler.path:
            handler.answer(302, b"", [("Location", handler.path)])
        return "/manifests/" in handler.path

    unreliable.instead = answer
    assert "cannot reach" in images.refused("pull", name)


def cut_off(times: int) -> Callable[[Handler], bool]:
    """Cut manifests off in the middle, so many times."""
    left = [times]

    def answer(handler: Handler) -> bool:
        if "/manifests/" not in handler.path or not left[0]:
            return False
        left[0] -= 1
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"schemaVersion": 2, "lay')
        handler.close_connection = True
        return True

    return answer


def test_a_manifest_that_is_cut_off(images: Images, unreliable: Unreliable, name: str) -> None:
    """It is asked for again."""
    unreliable.instead = cut_off(2)
    images.image("pull", name)
    assert {name} == images.names()


def test_a_registry_that_goes_away(images: Images, unreliable: Unreliable, name: str) -> None:
    """One that takes requests for blobs and says nothing is asked a few times, not a few times for each of these."""

    def answer(handler: Handler) -> bool:
        handler.close_connection = "/blobs/" in handler.path
        return handler.close_connection

    unreliable.instead = answer
    assert "cannot reach" in images.refused("pull", name)
    assert 3 <= sum("/blobs/" in path for path in unreliable.requests) <= 6


@pytest.mark.parametrize("body", [b'{"schemaVersion": 2, "lay', b"", b"null", b"\xff\xfe", b"[" * 100_000])
def test_manifests_that_are_no_json(images: Images, unreliable: Unreliable, name: str, body: bytes) -> None:
    """Each is one line."""

    def answer(handler: Handler) -> bool:
        if "/manifests/" in handler.path:
            handler.answer(200, body)
        return "/manifests/" in handler.path

    unreliable.instead = answer
    assert "cannot understand the manifest" in images.refused("pull", name)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_too_many_requests(images: Images, unreliable: Unreliable, name: str, form: str) -> None:
    """429 says how long to wait, as a number or as a date, and that long it is waited."""
    from email.utils import formatdate

    asked: list[float] = []

    def answer(handler: Handler) -> bool:
        if "/manifests/" not in handler.path:
            return False
        asked.append(time.time())
        if len(asked) == 1:
            after = "2" if form == "seconds" else formatdate(asked[0] + 3, usegmt=True)
            handler.answer(429, b"", [("Retry-After", after)])
        return len(asked) == 1

    unreliable.instead = answer
    images.image("pull", name)
    assert 2 == len(asked)
    assert asked[1] - asked[0] >= 1.9


def test_refused_for_too_many_requests(images: Images, unreliable: Unreliable, name: str) -> None:
    """A registry that goes on saying so is given up, and it is said why."""

    def answer(handler: Handler) -> bool:
        if "/manifests/" in handler.path:
            handler.answer(429, b"", [("Retry-After", "never")])
        return "/manifests/" in handler.path

    unreliable.instead = answer
    said = images.refused("pull", name)
    assert "answers 429 Too Many Requests" in said
    assert "try again later" in said


@pytest.mark.parametrize("form", ["chunked", "closed", "closed early"])
def test_answers_without_a_length(
    images: Images, layout: Layout, unreliable: Unreliable, name: str, form: str
) -> None:
    """In chunks, or up to the end of the connection, which may come too early for a blob."""

    def answer(handler: Handler) -> bool:
        if "/manifests/" in handler.path:
            wanted = json.loads((layout.path / "index.json").read_text())["manifests"][0]["digest"]
        elif "/blobs/" in handler.path and "Range" not in handler.headers:
            wanted = handler.path.rpartition("/")[2]
        else:
            return False
        data = (layout.path / "blobs" / wanted.replace(":", "/")).read_bytes()
        handler.send_response(200)
        if form == "chunked":
            handler.send_header("Transfer-Encoding", "chunked")
            data = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:10], data[10:])) + b"0\r\n\r\n"
        else:
            handler.close_connection = True
            if form == "closed early" and "/blobs/" in handler.path:
                data = data[: len(data) // 2]
        handler.end_headers()
        handler.wfile.write(data)
        return True

    unreliable.instead = answer
    images.image("pull", name)
    assert {name} == images.names()


def test_a_proxy_is_not_for_loopback(images: Images, unreliable: Unreliable, name: str) -> None:
    """A registry of this machine's is asked itself, whatever the environment says of proxies."""
    nobody = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:1")
    images.image("pull", name, variables=nobody)
    assert {name} == images.names()


@pytest.fixture
def encrypted(layout: Layout, tmp_path: Path) -> Iterator[tuple[Unreliable, str, Path]]:
    """A registry over https by this machine's own name, which isn't loopback's; that name, and the certificate."""
    outside = own_name()
    if shutil.which("openssl") is None:
        pytest.skip("openssl isn't installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={outside}"]
    command += ["-addext", f"subjectAltName=DNS:{outside}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    made = Unreliable(layout.path)
    made.encrypt(context)
    yield made, f"{outside}:{made.host.rpartition(':')[2]}", certificate
    made.close()


def test_certificates(images: Images, layout: Layout, encrypted: tuple[Unreliable, str, Path]) -> None:
    """One that nobody vouches for is refused, and what to do is said; it will do where that is configured."""
    _, host, certificate = encrypted
    layout.image([archive(Member("f"))], "x")
    said = images.refused("pull", f"{host}/x:1")
    assert "its certificate: self" in said
    assert f'insecure = ["{host}"]' in said
    images.image("pull", f"{host}/x:1", variables={"SSL_CERT_FILE": str(certificate)})
    images.image("prune", "-af")
    images.config.write_text(f'[registries]\ninsecure = ["{host}"]\n')
    images.image("pull", f"{host}/x:1")
    assert {f"{host}/x:1"} == images.names()


@pytest.mark.parametrize("where", ["/manifests/", "/blobs/"])
def test_an_encrypted_registry_sends_to_nobody_who_is_not(
    images: Images, layout: Layout, encrypted: tuple[Unreliable, str, Path], other: Other, where: str
) -> None:
    """Neither for manifests nor for blobs; where plain http may be spoken with it, it may."""
    registry, host, certificate = encrypted
    layout.image([archive(Member("f"))], "x")

    def answer(handler: Handler) -> bool:
        if where in handler.path:
            handler.answer(307, b"", [("Location", f"http://{other.host}{handler.path}")])
        return where in handler.path

    registry.instead = answer
    assert "isn't encrypted" in images.refused("pull", f"{host}/x:1", variables={"SSL_CERT_FILE": str(certificate)})
    assert [] == other.seen
    images.config.write_text(f'[registries]\ninsecure = ["{host}"]\n')
    images.try_image("pull", f"{host}/x:1")
    assert [] != other.seen
