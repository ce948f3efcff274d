"""Debian's docker-registry on this machine's loopback, in the kinds that people meet."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
from typing import TYPE_CHECKING

import pytest

from tests.images.serving import Handler, Server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rootless_sb.image.manifest import Descriptor

_PATIENCE = 30.0  # seconds until a registry that was started answers
USER, PASSWORD = "ann", "pass:word"


class Registry:
    """A registry that runs until `close`. `host`: its address and port."""

    def __init__(self, place: Path, auth: str = "") -> None:
        program = shutil.which("docker-registry")
        if program is None:
            pytest.skip("docker-registry isn't installed")
        port = free_port()
        self.host = f"127.0.0.1:{port}"
        self.log = place / "log"
        place.mkdir(parents=True, exist_ok=True)
        (place / "config.yml").write_text(
            f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {place}/data}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '{self.host}', secret: x}}\nlog: {{accesslog: {{disabled: false}}}}\n{auth}"
        )
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, "serve", place / "config.yml"], stdout=log, stderr=log, env={"OTEL_TRACES_EXPORTER": "none"}
            )
        deadline = time.monotonic() + _PATIENCE
        while not _answers(port):
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "the registry doesn't answer"
            time.sleep(0.02)

    def add(self, layout: Path, name: str, to: str = "", *, login: str = "", every: bool = False) -> str:
        """Copy an image of an OCI layout here with skopeo, under the name `to`; its full name is returned."""
        copied = f"{self.host}/{to or name}"
        options = [*(["--all"] if every else []), *([f"--dest-creds={login}"] if login else [])]
        subprocess.run(
            [
                *("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", *options),
                *(f"oci:{layout}:{name}", f"docker://{copied}"),
            ],
            check=True,
            capture_output=True,
        )
        return copied

    def requests(self, method: str, path: str) -> int:
        """How often something was asked for, by the log."""
        return sum(f'"{method} ' in line and path in line for line in self.log.read_text().splitlines())

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


def with_passwords(place: Path) -> Registry:
    """A registry that wants a name and a password."""
    place.mkdir(parents=True, exist_ok=True)
    if shutil.which("htpasswd") is None:
        pytest.skip("htpasswd isn't installed")
    line = subprocess.run(["htpasswd", "-Bbn", USER, PASSWORD], capture_output=True, check=True).stdout
    (place / "htpasswd").write_bytes(line)
    return Registry(place, f"auth: {{htpasswd: {{realm: tests, path: '{place}/htpasswd'}}}}\n")


class _Tokens(Handler):
    owner: TokenServer

    def get(self) -> None:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        login = self.headers.get("Authorization", "")
        known = login == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if login and not known:
            self.send_error(401)
            return
        token = self.owner.token(query.get("scope", [""])[0], known=known)
        self.answer(200, json.dumps({"token": token}).encode())


class TokenServer(Server):
    """Gives tokens as docker's token servers do: to anybody for pulling `open/…`, to one user for all."""

    def __init__(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self._key, self.certificate = place / "key.pem", place / "certificate.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tests"),
                *("-keyout", self._key, "-out", self.certificate),
            ],
            check=True,
            capture_output=True,
        )
        self._chain = "".join(self.certificate.read_text().splitlines()[1:-1])
        self.lifetime = 300  # seconds
        self.given = 0
        super().__init__(_Tokens)

    def token(self, scope: str, *, known: bool) -> str:
        """A signed token for what may be done (distribution, docs/spec/auth/jwt.md)."""
        self.given += 1
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        granted = actions.split(",") if known else ["pull"] if name.startswith("open/") else []
        now = int(time.time())
        claims = {
            "iss": "tests",
            "sub": "",
            "aud": "tests",
            "jti": os.urandom(8).hex(),
            "exp": now + self.lifetime,
            "nbf": now - 10,
            "iat": now,
            "access": [{"type": kind, "name": name, "actions": granted}] if granted else [],
        }
        header = {"typ": "JWT", "alg": "RS256", "x5c": [self._chain]}
        text = f"{_base64(json.dumps(header).encode())}.{_base64(json.dumps(claims).encode())}"
        signed = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self._key], input=text.encode(), capture_output=True, check=True
        ).stdout
        return f"{text}.{_base64(signed)}"

    def registry(self, place: Path) -> Registry:
        """A registry that believes these tokens."""
        return Registry(
            place,
            f"auth: {{token: {{realm: 'http://{self.host}/token', service: tests, issuer: tests, "
            f"rootcertbundle: '{self.certificate}'}}}}\n",
        )


class _Failing(Handler):
    owner: Unreliable
    protocol_version = "HTTP/1.1"

    def get(self) -> None:
        self.owner.requests.append(self.path)
        if self.owner.instead is not None and self.owner.instead(self):
            return
        if self.path == "/v2/":
            self.answer(200, b"")
        elif "/manifests/" in self.path:
            self.manifest(self.path.rpartition("/")[2])
        else:
            self.blob(self.path.rpartition(":")[2])

    def manifest(self, wanted: str) -> None:
        if not wanted.startswith("sha256:"):
            wanted = json.loads((self.owner.layout / "index.json").read_text())["manifests"][0]["digest"]
        data = (self.owner.layout / "blobs" / wanted.replace(":", "/")).read_bytes()
        self.answer(200, data, [("Content-Type", json.loads(data)["mediaType"])])

    def blob(self, digits: str) -> None:
        if self.owner.busy > 0:
            self.owner.busy -= 1
            self.answer(503, b"busy", [("Retry-After", "0")])
            return
        data = (self.owner.layout / "blobs/sha256" / digits).read_bytes() + bytes(self.owner.longer)
        if self.owner.wrong:
            data = data[:-1] + bytes([data[-1] ^ 1])
        start = 0
        if self.owner.ranges and (wanted := self.headers.get("Range")):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cut = self.owner.cut if self.owner.cuts > 0 else 0
        self.owner.cuts -= 1
        part = data[start : start + cut] if cut else data[start:]
        self.wfile.write(part)
        self.owner.sent += len(part)
        self.close_connection = len(part) < len(data) - start


class Unreliable(Server):
    """A registry of our own over an OCI layout, which fails as it is told to.

    `cut`: bytes after which the connection of a blob ends, the first `cuts` times; `busy`: so many requests for blobs
    are answered 503 first; `wrong`: blobs have one byte changed; `ranges`: whether it can go on in the middle;
    `longer`: bytes too many. `instead`: answers requests in its stead, or returns False. `sent` counts the bytes of
    blobs.
    """

    def __init__(self, layout: Path) -> None:
        self.cut = self.busy = self.longer = self.sent = 0
        self.cuts = 1000
        self.wrong = False
        self.ranges = True
        self.requests: list[str] = []
        self.instead: Callable[[Handler], bool] | None = None
        self.layout = layout
        super().__init__(_Failing)

    def asked_for(self, blob: Descriptor) -> int:
        """How often a blob was asked for."""
        return sum(path.endswith(blob.digest) for path in self.requests)


def own_name() -> str:
    """This machine's own name: of loopback, but not known as such to those who only read it."""
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        pytest.skip("this machine's own name has no address")
    if not address.startswith("127."):
        pytest.skip("this machine's own name isn't on loopback, where the test's registry is")
    return name


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
