"""A repository of a registry, over HTTP: what is asked, who asks, and what is done when the network fails.

Protocol: OCI distribution-spec; the tokens are those of docker's registry (distribution, docs/spec/auth/token.md).
"""

from __future__ import annotations

import email.utils
import random
import time
from contextlib import asynccontextmanager
from typing import IO, TYPE_CHECKING, TypeVar

import httpx
import trio

from fuse_overlay.tuples import NamedTuple
from rootless_sb import __version__
from rootless_sb.errors import SbError
from rootless_sb.image import challenge, manifest
from rootless_sb.image.blobs import CHUNK
from rootless_sb.image.groups import first_error
from rootless_sb.image.reference import DEFAULT_DOMAIN, is_loopback
from rootless_sb.image.unreachable import reason, unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from rootless_sb.image.blobs import Partial
    from rootless_sb.image.credentials import Credentials
    from rootless_sb.image.hosts import Hosts
    from rootless_sb.image.manifest import Descriptor
    from rootless_sb.image.reference import Reference

T = TypeVar("T")

_NETWORK = (httpx.HTTPError, httpx.InvalidURL)
_TRIES = 6  # without any progress in between
_PATIENCE = httpx.Timeout(60.0, connect=20.0)  # seconds
_SLOWEST = 30.0  # seconds between two tries
_LARGEST_ANSWER = 1 << 20  # bytes of a token or an error


class Transport(NamedTuple):
    """How a repository is reached: the client, the address before `/v2/`, and the registry's challenges."""

    client: httpx.AsyncClient
    base: str
    challenges: tuple[challenge.Challenge, ...]


class Repository:
    """One repository, as `connect` has found it."""

    def __init__(self, name: Reference, transport: Transport, credentials: Credentials | None, actions: str) -> None:
        self._name = name
        self._client = transport.client
        self._base = transport.base
        self._path = f"{transport.base}/v2/{name.path}"
        self._challenges = transport.challenges
        self._credentials = credentials
        self._scope = f"repository:{name.path}:{actions}"
        self._authorization = ""

    async def manifest(self, wanted: str) -> tuple[bytes, str]:
        """The manifest or index of a tag or digest, and what type the registry says it has. Raises SbError."""
        headers = {"Accept": ", ".join(manifest.ACCEPTED)}
        address = f"{self._path}/manifests/{wanted}"
        for attempt in range(_TRIES):
            async with self._ask("GET", address, headers) as response:
                if response.status_code == 404:
                    raise SbError(
                        f"there is no image {self._name.familiar()}",
                        f"{self._host()} doesn't know it",
                        "is its name right?",
                    )
                _expect(response, 200, f"cannot get the image {self._name.familiar()}")
                try:
                    return await _read(response, manifest.LARGEST), response.headers.get("Content-Type", "")
                except httpx.TransportError as error:
                    failure = error
            await trio.sleep(_pause(attempt))
        raise unreachable(self._host(), failure) from failure

    async def fetch(self, wanted: Descriptor, partial: Partial, told: Callable[[int], None]) -> None:
        """Bring what is lacking of a blob; `told` hears of each piece. Raises SbError."""
        partial.resume(wanted.size)
        told(partial.size)
        failures = 0
        while partial.size < wanted.size:
            before = partial.size
            try:
                await self._fetch_rest(wanted, partial, told)
            except httpx.TransportError as error:
                why = reason(error)
            else:
                why = "the connection was closed"
            if partial.size < wanted.size:
                failures = 0 if partial.size > before else failures + 1
                if failures >= _TRIES:
                    raise SbError(
                        f"cannot get a layer from {self._host()}", why, "what has come is kept: try again later"
                    )
                await trio.sleep(_pause(failures))
        partial.finish()

    async def _fetch_rest(self, wanted: Descriptor, partial: Partial, told: Callable[[int], None]) -> None:
        headers = {"Range": f"bytes={partial.size}-"} if partial.size else {}
        async with self._ask("GET", f"{self._path}/blobs/{wanted.digest}", headers) as response:
            status = response.status_code
            if status not in (206, 416):
                _expect(response, 200, f"cannot get a layer of {self._name.familiar()}")
            if partial.size and not _continues(response, partial.size):
                told(-partial.size)
                partial.restart()
            if status != 200 and not partial.size:  # it can't go on there; what it has sent is some other part
                return
            async for piece in response.aiter_raw():
                if partial.size + len(piece) > wanted.size:
                    partial.restart()
                    raise SbError(f"the blob {wanted.digest} is damaged", f"it is longer than {wanted.size} bytes")
                partial.write(piece)
                told(len(piece))

    async def has(self, digest: str) -> bool:
        """Whether the repository has a blob. Raises SbError."""
        async with self._ask("HEAD", f"{self._path}/blobs/{digest}", {}) as response:
            return response.status_code == 200

    async def upload(self, wanted: Descriptor, file: IO[bytes], told: Callable[[int], None]) -> None:
        """Bring a blob there. Raises SbError."""
        what = f"cannot push to {self._name.familiar()}"
        async with self._ask("POST", f"{self._path}/blobs/uploads/", {"Content-Length": "0"}) as response:
            _expect(response, 202, what)
            place = response.url.join(response.headers.get("Location", ""))

        async def pieces() -> AsyncIterator[bytes]:
            while data := file.read(CHUNK):
                told(len(data))
                yield data

        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(wanted.size)}
        address = place.copy_merge_params({"digest": wanted.digest})
        async with self._once("PUT", str(address), headers, pieces()) as response:
            _expect(response, 201, what)

    async def put_manifest(self, data: bytes, media_type: str, wanted: str) -> None:
        """Have a tag or digest mean a manifest. Raises SbError."""
        async with self._ask("PUT", f"{self._path}/manifests/{wanted}", {"Content-Type": media_type}, data) as response:
            _expect(response, 201, f"cannot push to {self._name.familiar()}")

    @asynccontextmanager
    async def _ask(
        self, method: str, address: str, headers: dict[str, str], content: bytes | None = None
    ) -> AsyncIterator[httpx.Response]:
        """Send a request until there is an answer: asked again when the server is busy or wants to know who asks.

        Raises SbError when there is none after some tries, httpx.TransportError for what goes wrong with the answer.
        """
        authorized = answered = False
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1
            try:
                async with self._once(method, address, headers, content) as response:
                    if response.status_code == 401 and not authorized:
                        authorized = True
                        await self._authorize(response)
                        continue
                    if not _is_busy(response.status_code) or last:
                        if response.status_code in (401, 403):
                            raise self._refusal()
                        answered = True
                        yield response
                        return
                    pause = max(_pause(attempt), _asked_pause(response))
            except httpx.TransportError as error:
                if answered:  # what went wrong with it is its reader's business
                    raise
                if last:
                    raise unreachable(self._host(), error) from error
                pause = _pause(attempt)
            await trio.sleep(pause)

    @asynccontextmanager
    async def _once(
        self, method: str, address: str, headers: dict[str, str], content: bytes | AsyncIterator[bytes] | None
    ) -> AsyncIterator[httpx.Response]:
        sent = dict(headers)
        if not self._authorization and self._challenges:
            await self._authenticate(self._challenges)
        if self._authorization and _origin(address) == _origin(self._base):  # not wherever an upload may be sent
            sent["Authorization"] = self._authorization
        async with self._client.stream(method, address, headers=sent, content=content) as response:
            yield response

    async def _authorize(self, response: httpx.Response) -> None:
        """Prove who asks once more: a token may have run out."""
        self._authorization = ""
        self._challenges = challenge.parse(response.headers.get("WWW-Authenticate", "")) or self._challenges
        if self._challenges:
            await self._authenticate(self._challenges)

    async def _authenticate(self, challenges: tuple[challenge.Challenge, ...]) -> None:
        for each in challenges:
            if each.scheme == "bearer" and "realm" in each.parameters:
                self._authorization = f"Bearer {await self._token(each.parameters)}"
                return
            if each.scheme == "basic":
                if self._credentials is None or not self._credentials.user:
                    raise self._refusal()
                self._authorization = _basic(self._credentials)
                return
        raise SbError(f"cannot log in to {self._host()}", "it asks for a kind of credentials that sb doesn't know")

    async def _token(self, parameters: dict[str, str]) -> str:
        """Ask the registry's token server. Raises SbError."""
        realm = httpx.URL(parameters["realm"])
        if realm.scheme != "https" and not self._base.startswith("http:"):
            raise SbError(f"cannot log in to {self._host()}", f"its token server {realm.host} isn't encrypted")
        asked = {"service": parameters.get("service", ""), "scope": self._scope}
        known = self._credentials
        try:
            if known is not None and known.token:
                form = {**asked, "grant_type": "refresh_token", "refresh_token": known.token, "client_id": "sb"}
                request = self._client.build_request("POST", realm, data=form)
            else:
                headers = {"Authorization": _basic(known)} if known is not None and known.user else {}
                request = self._client.build_request("GET", realm.copy_merge_params(asked), headers=headers)
            response = await self._client.send(request, stream=True)
            try:
                if response.status_code in (400, 401, 403):
                    raise self._refusal()
                _expect(response, 200, f"cannot log in to {self._host()}")
                data = await _read(response, _LARGEST_ANSWER)
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            raise unreachable(realm.host, error) from error
        answer = manifest.load(data, "the token server's answer")
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise SbError(f"cannot log in to {self._host()}", "its token server gave no token")
        return token

    def _refusal(self) -> SbError:
        domain = self._name.domain
        login = "docker login" if domain == DEFAULT_DOMAIN else f"docker login {domain}, or podman login {domain}"
        if self._credentials is None:
            why = f"{domain} wants to know who asks, or has no such image"
        else:
            why = f"{domain} doesn't take the credentials, or has no such image"
        return SbError(f"no access to {self._name.familiar()}", why, login)

    def _host(self) -> str:
        return httpx.URL(self._base).netloc.decode()


@asynccontextmanager
async def connect(
    name: Reference, host: str, hosts: Hosts, credentials: Credentials | None, actions: str
) -> AsyncIterator[Repository]:
    """A repository at a host, which may be a mirror. `actions`: `pull` or `pull,push`. Raises SbError.

    https first; plain http only where that is allowed: see `hosts`. What is on loopback isn't asked through a proxy.
    """
    insecure = hosts.may_be_insecure(host)

    async def check(request: httpx.Request) -> None:
        """Redirects come here too."""
        if request.url.scheme != "https" and not insecure:
            why = f"it sends to {request.url.host}, which isn't encrypted"
            hint = f'[registries] insecure = ["{host}"] in config.toml allows it'
            raise SbError(f"cannot get the image from {host}", why, hint)

    headers = {"User-Agent": f"sb/{__version__}", "Accept-Encoding": "identity"}
    limits = httpx.Limits(max_connections=16)
    async with httpx.AsyncClient(
        verify=not insecure,
        timeout=_PATIENCE,
        follow_redirects=True,
        headers=headers,
        limits=limits,
        trust_env=not is_loopback(host),
        event_hooks={"request": [check]},
    ) as client:
        failure: httpx.TransportError | None = None
        for scheme in ("https", "http") if insecure else ("https",):
            base = f"{scheme}://{host}"
            try:
                async with client.stream("GET", f"{base}/v2/") as response:
                    status, asked = response.status_code, response.headers.get("WWW-Authenticate", "")
            except httpx.TransportError as error:
                failure = failure or error
                continue
            transport = Transport(client, base, challenge.parse(asked if status == 401 else ""))
            yield Repository(name, transport, credentials, actions)
            return
        assert failure is not None
        raise unreachable(host, failure) from failure


async def guarded(host: str, act: Callable[[str], Awaitable[T]]) -> T:
    """Do something with a host; whatever goes wrong on the way to it is an SbError."""
    try:
        return await act(host)
    except BaseExceptionGroup as group:
        failure = first_error(group)
        if not isinstance(failure, _NETWORK):
            raise failure from group
    except _NETWORK as error:
        failure = error
    raise unreachable(host, failure) from failure


async def _read(response: httpx.Response, most: int) -> bytes:
    data = b""
    async for piece in response.aiter_raw():
        data += piece
        if len(data) > most:
            raise SbError(f"what {response.url.host} answers is too long", f"{most} bytes are the limit")
    return data


def _expect(response: httpx.Response, status: int, what: str) -> None:
    if response.status_code != status:
        busy = "try again later" if _is_busy(response.status_code) else ""
        raise SbError(what, f"{response.url.host} answers {response.status_code} {response.reason_phrase}", busy)


def _origin(address: str) -> tuple[str, str, int | None]:
    url = httpx.URL(address)
    return url.scheme, url.host, url.port


def _continues(response: httpx.Response, place: int) -> bool:
    """Whether an answer is what was asked for: the bytes from a place on."""
    return response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {place}-")


def _is_busy(status: int) -> bool:
    return status in (408, 429) or status >= 500


def _pause(failures: int) -> float:
    """Seconds until the next try: twice as many each time, and not all at once when many were cut off together."""
    return float(min(0.2 * 2**failures, _SLOWEST)) * (0.5 + random.random())


def _asked_pause(response: httpx.Response) -> float:
    """The seconds that a busy server asks for (Retry-After: a number or a date, RFC 9110, 10.2.3), within reason."""
    text = response.headers.get("Retry-After", "")
    if text.isascii() and text.isdecimal():
        return min(float(text), _SLOWEST)
    try:
        until = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(until - time.time(), 0.0), _SLOWEST)


def _basic(known: Credentials) -> str:
    import base64

    return "Basic " + base64.b64encode(f"{known.user}:{known.password}".encode()).decode()
