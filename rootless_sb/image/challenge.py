"""What a registry asks for with status 401: the header WWW-Authenticate (RFC 9110, 11.6.1). Pure."""

from __future__ import annotations

import re

from fuse_overlay.tuples import NamedTuple

_SCHEME = re.compile(r"\s*,?\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?:\s+|$|(?=,))")
_PARAMETER = re.compile(r"\s*,?\s*([A-Za-z0-9_-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]+))")


class Challenge(NamedTuple):
    """One way to prove who asks: `scheme` in lower case (`basic`, `bearer`), and its parameters by lower-case name."""

    scheme: str
    parameters: dict[str, str]


def parse(header: str) -> tuple[Challenge, ...]:
    """The challenges of a header, in its order. What can't be understood ends them."""
    found: list[Challenge] = []
    position = 0
    while match := _SCHEME.match(header, position):
        position = match.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            name, quoted, token = parameter.groups()
            parameters[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else token
            position = parameter.end()
        found.append(Challenge(match[1].lower(), parameters))
    return tuple(found)
