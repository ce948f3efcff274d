"""Who to be at a registry: docker's config.json, podman's auth.json, and their credential helpers.

Formats: containers-auth.json(5), and docker's documentation of `docker login` (credential stores). The functions that
understand these files are pure; `find` reads them and asks helpers.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError

# What docker keeps docker.io's credentials under.
_DOCKER_KEY = "https://index.docker.io/v1/"
_PATIENCE = 60.0  # seconds for a helper, which may have to ask a person


class Credentials(NamedTuple):
    """A name and a password, or an identity token (OAuth 2 refresh token) that a registry has given."""

    user: str = ""
    password: str = ""
    token: str = ""


def files(environment: dict[str, str], home: str) -> tuple[str, ...]:
    """The files that may hold credentials, the first one that knows a registry counts. Pure."""
    if named := environment.get("REGISTRY_AUTH_FILE"):
        return (named,)
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    config = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
    docker = environment.get("DOCKER_CONFIG") or f"{home}/.docker"
    places = (
        f"{runtime}/containers/auth.json" if runtime else "",
        f"{config}/containers/auth.json",
        f"{docker}/config.json",
    )
    return tuple(path for path in places if path)


def keys(domain: str, path: str) -> tuple[str, ...]:
    """What a file may keep the credentials of a repository under, the narrowest first. Pure."""
    parts = path.split("/")
    narrow = tuple(f"{domain}/{'/'.join(parts[:count])}" for count in range(len(parts), 0, -1))
    legacy = (_DOCKER_KEY, "index.docker.io") if domain == "docker.io" else ()
    urls = tuple(f"{scheme}://{domain}{end}" for scheme in ("https", "http") for end in ("", "/", "/v1/", "/v2/"))
    return (*narrow, domain, *legacy, *urls)


def understand(data: bytes, name: str) -> dict[str, object]:
    """The object of JSON in a file of credentials called `name`. Raises SbError. Pure."""
    try:
        document = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise SbError(f"cannot understand {name}", "it is not an object of JSON", "docker login writes it anew")
    return document


def stored(document: dict[str, object], wanted: tuple[str, ...]) -> Credentials | None:
    """The credentials that a file holds itself under one of the keys `wanted`. Raises SbError. Pure."""
    auths = _object(document.get("auths"))
    for key in wanted:
        entry = auths.get(key)
        if isinstance(entry, dict) and (found := _entry(entry, key)) is not None:
            return found
    return None


def helper(document: dict[str, object], domain: str) -> tuple[str, str] | None:
    """The helper that a file names for a registry, and what to ask it for. Pure."""
    asked = _DOCKER_KEY if domain == "docker.io" else domain
    named = _object(document.get("credHelpers"))
    for key in (domain, asked):
        if isinstance(program := named.get(key), str) and program:
            return program, key
    store = document.get("credsStore")
    return (store, asked) if isinstance(store, str) and store else None


def answer(data: bytes) -> Credentials | None:
    """What a helper has printed: `{"Username": …, "Secret": …}`; None if that is nothing. Pure."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    user, secret = found.get("Username"), found.get("Secret")
    if not isinstance(user, str) or not isinstance(secret, str) or not secret:
        return None
    return Credentials(token=secret) if user == "<token>" else Credentials(user, secret)


def find(domain: str, path: str, environment: dict[str, str], home: str) -> Credentials | None:
    """The credentials for a repository, None for those of nobody. Raises SbError for a file that can't be read."""
    for name in files(environment, home):
        try:
            with open(name, "rb") as file:
                document = understand(file.read(), name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise SbError(f"cannot read {name}", error.strerror or str(error)) from error
        if (found := stored(document, keys(domain, path))) is not None:
            return found
        if (program := helper(document, domain)) is not None and (found := _ask(*program, environment)) is not None:
            return found
    return None


def _ask(program: str, key: str, environment: dict[str, str]) -> Credentials | None:
    """Ask a helper (docker-credential-helpers, `get`); None if it knows nothing. Raises SbError."""
    name = f"docker-credential-{os.path.basename(program)}"
    try:
        done = subprocess.run(
            [name, "get"], input=key.encode(), capture_output=True, env=environment, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = "it didn't answer" if isinstance(error, subprocess.TimeoutExpired) else error.strerror or str(error)
        raise SbError(f"cannot ask {name} for credentials", why, f"install {name}, or log in once more") from error
    return answer(done.stdout) if done.returncode == 0 else None


def _entry(entry: dict[str, object], key: str) -> Credentials | None:
    """The credentials of one entry of `auths`; None if it is empty, as docker leaves it beside a helper."""
    token, auth = entry.get("identitytoken"), entry.get("auth")
    if isinstance(token, str) and token:
        return Credentials(token=token)
    if not isinstance(auth, str) or not auth:
        return None
    try:
        user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise SbError(f"cannot understand the credentials for {key}", "they aren't base64 of USER:PASSWORD")
    return Credentials(user, password.rstrip("\0"))


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
