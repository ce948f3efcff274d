"""Real registries: plain, with passwords, with tokens; images by tag, digest and platform; mirrors; pushing."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.images.archives import Member, archive
from tests.images.registries import PASSWORD, USER, own_name

if TYPE_CHECKING:
    from tests.images.conftest import Images
    from tests.images.layouts import Layout
    from tests.images.registries import Registry, TokenServer

ONE = archive(Member("one", b"1" * 5000))
TWO = archive(Member("two", b"2" * 5000))
LOGIN = f"{USER}:{PASSWORD}"


def test_an_image_by_its_tag(images: Images, layout: Layout, registry: Registry) -> None:
    """It is there under its name, with the id that docker would show, and its layers are unpacked."""
    layout.image([ONE, TWO], "t")
    name = registry.add(layout.path, "t", "plain/tag:1")
    identifier = images.image("pull", name).strip()
    assert {name} == images.names()
    known = json.loads(images.image("inspect", name))["images"][0]
    inspected = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{name}"], capture_output=True, check=True
    )
    assert f"sha256:{identifier}" == json.loads(inspected.stdout)["config"]["digest"]
    trees = [images.store / "layers" / each["diff_id"].partition(":")[2] / "tree" for each in known["layers"]]
    assert [b"1" * 5000, b"2" * 5000] == [(trees[0] / "one").read_bytes(), (trees[1] / "two").read_bytes()]


def test_an_image_by_its_digest(images: Images, layout: Layout, registry: Registry) -> None:
    """The digest's own image comes, whatever the tag says by now; another digest is refused."""
    old = layout.image([ONE], "old")
    layout.image([TWO], "new")
    registry.add(layout.path, "old", "plain/digest:1")
    name = registry.add(layout.path, "new", "plain/digest:1")
    repository = name.rpartition(":")[0]
    images.image("pull", f"{repository}@{old.digest}")
    assert {f"{repository}@{old.digest}"} == images.names()
    assert "there is no image" in images.refused("pull", f"{repository}@sha256:{'0' * 64}")


def test_a_shared_layer_comes_once(images: Images, layout: Layout, registry: Registry) -> None:
    """The second image with a layer doesn't ask for that layer's bytes again."""
    layout.image([ONE], "a")
    layout.image([ONE, TWO], "b")
    first, second = (registry.add(layout.path, tag, f"plain/shared:{tag}") for tag in "ab")
    images.image("pull", first)
    before = registry.requests("GET", "plain/shared/blobs/")
    images.image("pull", second)
    assert 2 == registry.requests("GET", "plain/shared/blobs/") - before  # the configuration and the new layer
    assert images.try_image("pull", second).stderr.count("already here") == 2


def test_platforms(images: Images, layout: Layout, registry: Registry) -> None:
    """An index gives this machine's image, or the one asked for; what isn't there is said with what is."""
    by_platform = {
        on: layout.image([archive(Member(on.replace("/", "-")))], on=on) for on in ("amd64", "arm64", "s390x")
    }
    layout.index(by_platform, "all")
    name = registry.add(layout.path, "all", "plain/platforms:1", every=True)
    images.image("pull", name, "--platform", "linux/arm64")
    assert ["linux/arm64/v8"] == [each["platform"] for each in images.ls().values()]
    images.image("pull", name, "--platform", "s390x")
    assert {"linux/arm64/v8", "linux/s390x"} == {each["platform"] for each in images.ls().values()}
    assert "there are for linux/amd64, linux/arm64/v8, linux/s390x" in images.refused(
        "pull", name, "--platform", "mips"
    )


@pytest.mark.parametrize(("form", "compression"), [("oci", "gzip"), ("oci", "zstd"), ("v2s2", "gzip")])
def test_formats(images: Images, layout: Layout, registry: Registry, form: str, compression: str) -> None:
    """OCI's and docker's manifests, gzip and zstd, which docker's format doesn't have."""
    layout.image([ONE], "x")
    name = f"{registry.host}/plain/formats:{form}-{compression}"
    subprocess.run(
        [
            *("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", f"--format={form}"),
            *(f"--dest-compress-format={compression}", f"oci:{layout.path}:x", f"docker://{name}"),
        ],
        check=True,
    )
    images.image("pull", name)
    assert {name} == images.names()


def test_layers_that_are_not_compressed(images: Images, layout: Layout, registry: Registry) -> None:
    """The third kind; one is pushed and pulled as it is."""
    (layout.path / "r.tar").write_bytes(ONE)
    name = f"{registry.host}/plain/uncompressed:1"
    identifier = images.image("import", "-q", str(layout.path / "r.tar"), name).strip()
    images.image("push", "-q", name)
    images.image("prune", "-af")
    assert identifier == images.image("pull", "-q", name).strip()
    inspected = ["skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{name}"]
    shown = json.loads(subprocess.run(inspected, capture_output=True, check=True).stdout)
    assert ["application/vnd.oci.image.layer.v1.tar"] == [layer["mediaType"] for layer in shown["layers"]]


def test_a_password(images: Images, layout: Layout, guarded_registry: Registry) -> None:
    """Without one, with a wrong one and with the right one."""
    layout.image([ONE], "x")
    name = guarded_registry.add(layout.path, "x", "secret/x:1", login=LOGIN)
    assert "wants to know who asks" in images.refused("pull", name)
    images.login(guarded_registry.host, USER, "wrong")
    said = images.refused("pull", name)
    assert "doesn't take the credentials" in said
    assert "podman login" in said
    assert {} == images.ls()
    images.login(guarded_registry.host, USER, PASSWORD)
    images.image("pull", name)
    assert {name} == images.names()


def test_tokens(images: Images, layout: Layout, token_registry: Registry, tokens: TokenServer) -> None:
    """Anybody may pull what is open; what isn't takes credentials, which the token server gets."""
    layout.image([ONE], "x")
    free = token_registry.add(layout.path, "x", "open/x:1", login=LOGIN)
    closed = token_registry.add(layout.path, "x", "closed/x:1", login=LOGIN)
    before = tokens.given
    images.image("pull", free)
    assert tokens.given > before
    assert "wants to know who asks" in images.refused("pull", closed)
    images.login(token_registry.host, USER, "wrong")
    assert "doesn't take the credentials" in images.refused("pull", closed)
    images.login(token_registry.host, USER, PASSWORD)
    images.image("pull", closed)
    assert {free, closed} == images.names()


def test_pushing(images: Images, layout: Layout, registry: Registry, token_registry: Registry) -> None:
    """What was pulled is pushed as it is, digest and all; to a registry with tokens, and under another name."""
    layout.image([ONE, TWO], "x")
    name = registry.add(layout.path, "x", "plain/pushed:1")
    images.image("pull", name)
    images.login(token_registry.host, USER, PASSWORD)
    target = f"{token_registry.host}/pushed/x:2"
    digest = images.image("push", name, target).strip()
    there = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"--creds={LOGIN}", f"docker://{target}"],
        capture_output=True,
        check=True,
    )
    assert digest == json.loads(there.stdout)["Digest"]
    assert json.loads(images.image("inspect", name))["images"][0]["digest"] == digest
    (images.docker / "config.json").unlink()
    assert "no access" in images.refused("push", name, target)


def test_pushing_when_the_cache_was_cleared(images: Images, layout: Layout, registry: Registry) -> None:
    """The image that comes back has the same id, and the manifest that was pushed; twice the same."""
    layout.image([ONE, TWO], "x")
    name = registry.add(layout.path, "x", "plain/cleared:1")
    identifier = images.image("pull", "-q", name).strip()
    shutil.rmtree(images.place / "cache")
    target = f"{registry.host}/plain/cleared-pushed:1"
    digests = {images.image("push", "-q", name, target).strip() for _ in range(2)}
    images.image("prune", "-af")
    assert identifier == images.image("pull", "-q", target).strip()
    assert digests == {json.loads(images.image("inspect", target))["images"][0]["digest"]}


def test_pushing_by_id(images: Images, layout: Layout, registry: Registry) -> None:
    """An image that is called by its id goes to where its one name says; with none or several it has to be said."""
    made = layout.image([ONE], f"{registry.host}/plain/by-id:1")
    images.image("load", "-q", "-i", str(layout.path))
    identifier = next(iter(images.ls()))[:12]
    digest = images.image("push", "-q", identifier).strip()
    assert (made.digest, 1) == (digest, registry.requests("PUT", "plain/by-id/manifests/1"))
    layout.list(made, f"{registry.host}/plain/by-id:2")
    images.image("load", "-q", "-i", str(layout.path))
    assert "it has several names" in images.refused("push", identifier)
    assert digest == images.image("push", "-q", identifier, f"{registry.host}/plain/by-id:3").strip()
    assert digest == images.image("push", "-q", f"{registry.host}/plain/by-id:2").strip()


def test_a_mirror(images: Images, layout: Layout, registry: Registry) -> None:
    """It is asked first; when it doesn't answer or doesn't have the image, the registry itself is."""
    layout.image([ONE], "x")
    registry.add(layout.path, "x", "library/mirrored:1")
    images.config.write_text(f'[registries]\nmirrors = {{ "docker.io" = ["127.0.0.1:1", "{registry.host}"] }}\n')
    done = images.try_image("pull", "mirrored:1")
    assert 0 == done.returncode, done.stderr
    assert "warning: the mirror 127.0.0.1:1" in done.stderr
    assert {"docker.io/library/mirrored:1"} == images.names()


def test_plain_http_only_where_it_may_be(images: Images, layout: Layout, registry: Registry) -> None:
    """A registry that isn't on loopback must be configured as insecure before plain http is spoken with it."""
    layout.image([ONE], "x")
    port = registry.host.rpartition(":")[2]
    registry.add(layout.path, "x", "plain/insecure:1")
    outside = own_name()
    name = f"{outside}:{port}/plain/insecure:1"
    assert "cannot reach" in images.refused("pull", name)
    images.config.write_text(f'[registries]\ninsecure = ["{outside}:{port}"]\n')
    images.image("pull", name)
    assert {name} == images.names()
