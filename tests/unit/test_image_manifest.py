"""Manifests, indexes and configurations: what is understood, and that garbage is an error and nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rootless_sb.errors import SbError
from rootless_sb.image import manifest
from rootless_sb.image.manifest import Descriptor, IndexEntry, Json, Manifest
from rootless_sb.image.platform import Platform

ONE = f"sha256:{'1' * 64}"
TWO = f"sha256:{'2' * 64}"
EXAMPLE = Manifest(
    manifest.OCI_MANIFEST,
    Descriptor(manifest.OCI_CONFIG, ONE, 10),
    (Descriptor(manifest.OCI_LAYER + "+gzip", TWO, 20),),
)


def document(**changes: Json) -> bytes:
    """The example as JSON, with other values for some keys."""
    return json.dumps({**json.loads(manifest.render(EXAMPLE)), **changes}).encode()


def test_what_is_rendered_is_parsed() -> None:
    """A manifest that sb writes is one that it reads."""
    assert EXAMPLE == manifest.parse(manifest.render(EXAMPLE))


def test_the_transport_may_say_the_type() -> None:
    """OCI manifests may lack their media type; then it is what the registry said."""
    data = json.loads(manifest.render(EXAMPLE))
    del data["mediaType"]
    assert EXAMPLE == manifest.parse(json.dumps(data).encode(), f"{manifest.OCI_MANIFEST}; charset=utf-8")


@pytest.mark.parametrize(
    "changes",
    [
        {"schemaVersion": 1},
        {"schemaVersion": None},
        {"mediaType": "text/html"},
        {"mediaType": 5},
        {"manifests": []},
        {"layers": {}},
        {"layers": [{}]},
        {"config": None},
        {"config": {"mediaType": "x", "digest": "sha256:1", "size": 1}},
        {"config": {"mediaType": "x", "digest": ONE, "size": -1}},
        {"config": {"mediaType": "x", "digest": ONE, "size": 1.5}},
        {"config": {"mediaType": "x", "digest": ONE, "size": True}},
        {"config": {"mediaType": "x", "digest": f"sha256:../{'1' * 61}", "size": 1}},
        {"layers": [manifest.plain(EXAMPLE.layers[0])] * 501},
        {"mediaType": manifest.OCI_INDEX, "manifests": []},
    ],
)
def test_bad_manifests_are_errors(changes: dict[str, Json]) -> None:
    """Each is refused in words, and the one that two programs would take for two images too."""
    with pytest.raises(SbError):
        manifest.parse(document(**changes))


KEYS = some.sampled_from(["schemaVersion", "manifests", "layers", "config", "rootfs", "Env", "os"])
GARBAGE = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=5),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(KEYS, inner),
)


@given(some.binary(max_size=60) | GARBAGE.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_understood_or_refused(data: bytes) -> None:
    """No garbage leads to anything but an SbError."""
    for understand in (manifest.parse, manifest.parse_config):
        try:
            understand(data)
        except SbError:
            continue


def test_nesting_without_end_is_refused() -> None:
    """A tower of brackets is an error, no crash."""
    with pytest.raises(SbError, match="not JSON"):
        manifest.parse(b"[" * 1_000_000)


ENTRIES = (
    IndexEntry(Descriptor(manifest.OCI_MANIFEST, ONE, 1), Platform("linux", "amd64")),
    IndexEntry(Descriptor(manifest.OCI_MANIFEST, TWO, 2), Platform("linux", "arm64", "v8")),
    IndexEntry(Descriptor(manifest.OCI_MANIFEST, TWO, 3), Platform("unknown", "unknown")),
)


def test_an_index_is_chosen_from_by_platform() -> None:
    """The platform's own image, or an error that names the others."""
    data = manifest.as_json(
        {
            "schemaVersion": 2,
            "mediaType": manifest.OCI_INDEX,
            "manifests": [
                {**manifest.plain(each.descriptor), "platform": each.platform and dict(each.platform._asdict())}
                for each in ENTRIES
            ],
        }
    )
    entries = manifest.parse(data)
    assert ENTRIES == entries
    assert TWO == manifest.choose(ENTRIES, Platform("linux", "arm64")).digest
    with pytest.raises(SbError, match="there are for linux/amd64, linux/arm64/v8"):
        manifest.choose(ENTRIES, Platform("linux", "s390x"))


def test_a_configuration() -> None:
    """Everything that a run needs is taken from it; nulls, as docker writes them, are nothing."""
    data = manifest.as_json(
        {
            "os": "linux",
            "architecture": "amd64",
            "config": {
                "Env": ["A=1", "B=", "broken", "=x"],
                "Cmd": ["sh"],
                "Entrypoint": None,
                "User": "www:web",
                "Volumes": {"/data": {}},
                "ExposedPorts": {"80/tcp": {}},
                "StopSignal": "SIGQUIT",
                "WorkingDir": "/srv",
                "Labels": {"b": "2", "a": "1"},
            },
            "rootfs": {"type": "layers", "diff_ids": [ONE]},
        }
    )
    found = manifest.parse_config(data)
    assert (("A=1", "B="), (), ("sh",)) == (found.environment, found.entrypoint, found.command)
    assert (("/data",), ("80/tcp",), "SIGQUIT", "/srv") == (
        found.volumes,
        found.ports,
        found.stop_signal,
        found.directory,
    )
    assert (("a", "1"), ("b", "2")) == found.labels
    manifest.check_layers(EXAMPLE, found)
    with pytest.raises(SbError, match="1 layers, its configuration 2"):
        manifest.check_layers(EXAMPLE, found._replace(diff_ids=(ONE, TWO)))


@pytest.mark.parametrize("text", ["a\\u0000b", "\\ud800"])
def test_texts_that_no_program_could_get_are_refused(text: str) -> None:
    """NUL and half of a surrogate pair can be in JSON, and in no argument."""
    data = f'{{"config": {{"Cmd": ["{text}"]}}, "rootfs": {{"diff_ids": []}}}}'
    with pytest.raises(SbError, match="not a text"):
        manifest.parse_config(data.encode())


@pytest.mark.parametrize(
    ("media_type", "name"),
    [
        ("application/vnd.oci.image.layer.v1.tar", ""),
        ("application/vnd.oci.image.layer.v1.tar+zstd", "zstd"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "gzip"),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", "gzip"),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "gzip"),
    ],
)
def test_how_layers_are_compressed(media_type: str, name: str) -> None:
    """The type says it, docker's and OCI's."""
    assert name == manifest.compression(media_type)
    with pytest.raises(SbError, match="doesn't know how to unpack"):
        manifest.compression(f"{media_type}x")
