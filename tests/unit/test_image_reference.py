"""Image names: what they mean, what they can't be, and which platform runs where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rootless_sb.errors import SbError
from rootless_sb.image import platform, reference
from rootless_sb.image.platform import Platform
from rootless_sb.image.reference import Reference

HEX = "a" * 64


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("ubuntu", "docker.io/library/ubuntu:latest", "ubuntu:latest"),
        ("ubuntu:24.04", "docker.io/library/ubuntu:24.04", "ubuntu:24.04"),
        ("ann/tool", "docker.io/ann/tool:latest", "ann/tool:latest"),
        ("index.docker.io/ubuntu", "docker.io/library/ubuntu:latest", "ubuntu:latest"),
        ("docker.io/library/ubuntu", "docker.io/library/ubuntu:latest", "ubuntu:latest"),
        ("ghcr.io/a/b:1", "ghcr.io/a/b:1", "ghcr.io/a/b:1"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x/y", "localhost:5000/x/y:latest", "localhost:5000/x/y:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        (f"x@sha256:{HEX}", f"docker.io/library/x@sha256:{HEX}", f"x@sha256:{HEX}"),
        (f"x:1@sha256:{HEX}", f"docker.io/library/x:1@sha256:{HEX}", f"x:1@sha256:{HEX}"),
        ("a__b/c--d.e", "docker.io/a__b/c--d.e:latest", "a__b/c--d.e:latest"),
    ],
)
def test_names_mean_what_docker_takes_them_for(text: str, full: str, familiar: str) -> None:
    """A name has a full form and a short one, and both mean the same."""
    found = reference.parse(text)
    assert (full, familiar) == (str(found), found.familiar())
    assert found == reference.parse(full) == reference.parse(familiar)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Ubuntu",
        "a//b",
        "/a",
        "a/",
        "-a",
        "a:",
        "a:-b",
        "a@sha256:12",
        "a@",
        ":tag",
        "a b",
        "a/../b",
        "x" * 256,
        HEX,
        "http://x/y",
        "a\n",
        "a_-b",
        "é",
        f"a:{'t' * 129}",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    """Each is an error in one line that quotes it."""
    with pytest.raises(SbError, match="not an image's name"):
        reference.parse(text)


def test_capital_letters_get_a_hint() -> None:
    """The most frequent mistake is named."""
    with pytest.raises(SbError) as failure:
        reference.parse("Ubuntu:24.04")
    assert "did you mean ubuntu:24.04?" == failure.value.hint


@given(some.text(alphabet="aB0._-/:@[]~ sha256é", max_size=40))
def test_any_text_is_a_name_or_an_error(text: str) -> None:
    """What is taken can be written down and read again, and its parts can be parts of a path."""
    try:
        found = reference.parse(text)
    except SbError:
        return
    assert found == reference.parse(str(found)) == reference.parse(found.familiar())
    assert not {"", ".", ".."} & {*f"{found.domain}/{found.path}".split("/")}


@pytest.mark.parametrize(
    ("word", "is_one"),
    [
        ("ubuntu:latest", True),
        ("ghcr.io/a/b", True),
        ("ubuntu", False),
        ("./x:y", False),
        ("ls -l", False),
        ("Make:all", False),
        ("/bin/x:1", False),
    ],
)
def test_words_that_look_like_images(word: str, is_one: bool) -> None:
    """A word with a tag, a digest or a registry; a bare word or a path is a command."""
    assert is_one == reference.looks_like_one(word)


@pytest.mark.parametrize(
    ("domain", "is_loopback"),
    [
        ("127.0.0.1:5000", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("[::1]:5000", True),
        ("127.0.0.1.evil.example", False),
        ("docker.io", False),
        ("localhost.example", False),
        ("128.0.0.1", False),
    ],
)
def test_loopback_registries(domain: str, is_loopback: bool) -> None:
    """Only what can't leave this machine may go unencrypted."""
    assert is_loopback == reference.is_loopback(domain)


def test_where_an_image_is_asked_for() -> None:
    """A digest counts more than a tag."""
    assert f"sha256:{HEX}" == Reference("x", "y", "1", f"sha256:{HEX}").wanted()
    assert "1" == Reference("x", "y", "1").wanted()


OFFERED = (
    Platform("linux", "386"),
    Platform("linux", "arm", "v6"),
    Platform("linux", "arm", "v7"),
    Platform("linux", "amd64"),
    Platform("windows", "amd64"),
    Platform("linux", "arm64", "v8"),
)


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("amd64", 3),
        ("linux/x86_64", 3),
        ("arm", 2),
        ("linux/arm/v6", 1),
        ("linux/arm/v5", None),
        ("arm64", 5),
        ("windows/amd64", 4),
        ("s390x", None),
        ("linux/arm/v8", 2),
    ],
)
def test_the_best_platform(wanted: str, chosen: int | None) -> None:
    """The same one first, then one that an older processor of the kind would run."""
    assert chosen == platform.best(platform.parse(wanted), OFFERED)


@pytest.mark.parametrize("text", ["", "linux/", "a/b/c/d", "linux/arm 64", "linux//v7"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    """With an example of one."""
    with pytest.raises(SbError, match="not a platform"):
        platform.parse(text)
