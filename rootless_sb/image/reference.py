"""What people call an image: `ubuntu`, `ghcr.io/a/b:1.2`, `x@sha256:…`. Pure.

The grammar is that of github.com/distribution/reference (reference.go, regexp.go), and short names mean what docker
takes them for: `ubuntu` is `docker.io/library/ubuntu:latest`.
"""

from __future__ import annotations

import re

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError

DEFAULT_DOMAIN = "docker.io"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_DEFAULT_TAG = "latest"
_LONGEST_NAME = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_HEX = re.compile(r"[0-9a-f]{64}")


class Reference(NamedTuple):
    """An image's full name. `tag` is empty when only a digest was given, `digest` when only a tag was."""

    domain: str
    path: str
    tag: str
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.domain}/{self.path}{self._suffix()}"

    def familiar(self) -> str:
        """The shortest name that means the same, as people write it."""
        path = self.path
        if self.domain != DEFAULT_DOMAIN:
            path = f"{self.domain}/{path}"
        elif path.startswith(_OFFICIAL) and "/" not in path.removeprefix(_OFFICIAL):
            path = path.removeprefix(_OFFICIAL)
        return path + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def wanted(self) -> str:
        """What a registry is asked for: the digest if there is one, else the tag."""
        return self.digest or self.tag


def parse(text: str) -> Reference:
    """The reference that `text` is. Raises SbError, with what is wrong about it."""
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise _bad(text, f"{digest or 'nothing'} is not a digest", "a digest is sha256: and 64 hexadecimal digits")
    name, tag = _split_tag(rest)
    if tag is not None and not _TAG.fullmatch(tag):
        raise _bad(text, f"{tag or 'nothing'} is not a tag", "a tag has letters, digits, _, . and -, 128 at most")
    domain, path = _split_domain(name)
    if not _DOMAIN.fullmatch(domain):
        raise _bad(text, f"{domain or 'nothing'} is not a registry's host name")
    if not _PATH.fullmatch(path):
        hint = f"did you mean {text.lower()}?" if _PATH.fullmatch(path.lower()) else "names are like ubuntu:24.04"
        raise _bad(text, f"{path or 'nothing'} is not a repository's name", hint)
    if len(domain) + 1 + len(path) > _LONGEST_NAME:
        raise _bad(text, f"its name is longer than {_LONGEST_NAME} characters")
    if _HEX.fullmatch(name):
        raise _bad(text, "64 hexadecimal digits are an image's id, and no name", f"sha256:{name} names one by its id")
    return Reference(domain, path, tag or ("" if digest else _DEFAULT_TAG), digest)


def is_digest(text: str) -> bool:
    """Whether this is a digest of a kind that sb can check."""
    return _DIGEST.fullmatch(text) is not None


def looks_like_one(word: str) -> bool:
    """Whether a word that is no command is most likely an image's name: with a tag, a digest or a registry."""
    if word.startswith(("/", ".")) or not (":" in word or "@" in word or "/" in word):
        return False
    try:
        parse(word)
    except SbError:
        return False
    return True


def is_loopback(domain: str) -> bool:
    """Whether a registry is this machine's own, which may speak plain http (docker's rule: 127.0.0.0/8, ::1)."""
    host = host_of(domain)
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


def host_of(domain: str) -> str:
    """A registry's host without its port and, for IPv6, without its brackets."""
    if domain.startswith("["):
        return domain[1:].partition("]")[0]
    return domain.partition(":")[0]


def _split_tag(text: str) -> tuple[str, str | None]:
    """A colon behind the last slash begins a tag; one before it, a port."""
    last = text.rpartition("/")[2]
    if ":" not in last:
        return text, None
    tag = last.partition(":")[2]
    return text[: -len(tag) - 1], tag


def _split_domain(name: str) -> tuple[str, str]:
    """The first component is a registry if it can be nothing else."""
    first, slash, rest = name.partition("/")
    is_domain = slash and (any(mark in first for mark in ".:[") or first == "localhost" or first != first.lower())
    domain, path = (first, rest) if is_domain else (DEFAULT_DOMAIN, name)
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL + path
    return domain, path


def _bad(text: str, why: str, hint: str = "") -> SbError:
    return SbError(f"not an image's name: {text}", why, hint)
