"""Credentials as docker and podman keep them, and what registries challenge with."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rootless_sb.errors import SbError
from rootless_sb.image import challenge, credentials
from rootless_sb.image.credentials import Credentials

if TYPE_CHECKING:
    from pathlib import Path


def auth(text: str) -> dict[str, str]:
    """An entry of `auths`."""
    return {"auth": base64.b64encode(text.encode()).decode()}


def test_the_narrowest_key_counts() -> None:
    """podman may keep credentials for a repository, docker for a registry, docker.io's under an address."""
    document = {
        "auths": {
            "quay.io": auth("all:1"),
            "quay.io/team": auth("team:with:colons"),
            "https://index.docker.io/v1/": auth("hub:2"),
            "empty.example": {},
            "https://url.example/v2/": auth("url:3"),
            "token.example": {"identitytoken": "secret"},
        }
    }

    def found(domain: str, path: str) -> Credentials | None:
        return credentials.stored(document, credentials.keys(domain, path))  # type: ignore[arg-type]  # as JSON has it

    assert Credentials("team", "with:colons") == found("quay.io", "team/tool")
    assert Credentials("all", "1") == found("quay.io", "teams/tool")
    assert Credentials("hub", "2") == found("docker.io", "library/ubuntu")
    assert Credentials("url", "3") == found("url.example", "x")
    assert Credentials(token="secret") == found("token.example", "x")
    assert None is found("empty.example", "x")
    assert None is found("unknown.example", "x")


def test_podmans_file_comes_before_dockers(tmp_path: Path) -> None:
    """The first file that knows the registry counts; one that doesn't is passed over."""
    for name, content in (
        ("config/containers/auth.json", {"a": auth("podman:1")}),
        ("docker/config.json", {"b": auth("docker:2")}),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(json.dumps({"auths": content}))
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "DOCKER_CONFIG": str(tmp_path / "docker")}
    assert Credentials("podman", "1") == credentials.find("a", "x", environment, "/nowhere")
    assert Credentials("docker", "2") == credentials.find("b", "x", environment, "/nowhere")
    assert None is credentials.find("c", "x", environment, "/nowhere")


def test_helpers_are_asked(tmp_path: Path) -> None:
    """One for a registry, one for all; what one that knows nothing says isn't an error, one that isn't there is."""
    for name, secret in (("one", "first"), ("all", "second")):
        program = tmp_path / f"docker-credential-{name}"
        known = f'{{"Username": "%s", "Secret": "{secret}"}}'
        script = f'#!/bin/sh\nread -r key\n[ "$1 $key" != "get nobody" ] && printf \'{known}\' "$key"\n'
        program.write_text(script)
        program.chmod(0o755)
    (tmp_path / "config.json").write_text(
        json.dumps({"credHelpers": {"a": "one", "gone": "missing"}, "credsStore": "all", "auths": {"a": {}}})
    )
    environment = {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert Credentials("a", "first") == credentials.find("a", "x", environment, "/nowhere")
    assert Credentials("b", "second") == credentials.find("b", "x", environment, "/nowhere")
    assert Credentials("https://index.docker.io/v1/", "second") == credentials.find("docker.io", "x", environment, "/")
    assert None is credentials.find("nobody", "x", environment, "/nowhere")
    with pytest.raises(SbError, match="cannot ask docker-credential-missing"):
        credentials.find("gone", "x", environment, "/nowhere")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"auths": {"a": {"auth": "%%%"}}}', '{"auths": {"a": {"auth": "eA=="}}}']
)
def test_damaged_files_are_errors(tmp_path: Path, content: str) -> None:
    """One line that names what can't be understood."""
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(SbError, match="cannot understand"):
        credentials.find("a", "x", {"DOCKER_CONFIG": str(tmp_path)}, "/nowhere")


@given(some.binary(max_size=50))
def test_helpers_may_say_anything(data: bytes) -> None:
    """Garbage is no credentials."""
    assert None is credentials.answer(data)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (
            'Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push"',
            [
                (
                    "bearer",
                    {"realm": "https://auth.example/token", "service": "reg", "scope": "repository:a/b:pull,push"},
                )
            ],
        ),
        ("Basic realm=x", [("basic", {"realm": "x"})]),
        ('basic Realm = "a \\"b\\""', [("basic", {"realm": 'a "b"'})]),
        ('Basic realm="x", Bearer realm="y"', [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        ("Negotiate", [("negotiate", {})]),
        ("Negotiate, Basic realm=x, NTLM", [("negotiate", {}), ("basic", {"realm": "x"}), ("ntlm", {})]),
        ("", []),
    ],
)
def test_challenges(header: str, found: list[tuple[str, dict[str, str]]]) -> None:
    """Schemes and parameters, quoted or not, several in one header."""
    assert found == [(each.scheme, each.parameters) for each in challenge.parse(header)]


@given(some.text(alphabet='aB="\\, \t;é', max_size=60))
def test_any_header_can_be_parsed(header: str) -> None:
    """Garbage is no challenge, and no error."""
    challenge.parse(header)
