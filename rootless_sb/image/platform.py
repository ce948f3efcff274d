"""Platforms, as image indexes name them: `linux/arm64/v8`. Pure, but for `own`, which asks uname(2)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError

if TYPE_CHECKING:
    from collections.abc import Iterable

# What uname(2) calls a machine, and what GOARCH and GOARM do, which image indexes use (image-spec, image-index.md).
_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
}
_SYNONYMS = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386", "i686": "386"}
# The variant that an architecture's name alone stands for (containerd, platforms/normalize).
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7"}


class Platform(NamedTuple):
    """An operating system, an architecture in Go's words, and perhaps a variant of it."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


def parse(text: str) -> Platform:
    """The platform of `--platform`: `OS/ARCH[/VARIANT]`, or `ARCH` alone. Raises SbError."""
    parts = text.lower().split("/")
    if len(parts) == 1:
        parts.insert(0, "linux")
    if not 2 <= len(parts) <= 3 or not all(
        part.isascii() and part.replace("-", "").replace("_", "").isalnum() for part in parts
    ):
        raise SbError(f"not a platform: {text}", hint="an operating system and an architecture: linux/arm64")
    architecture = _SYNONYMS.get(parts[1], parts[1])
    variant = parts[2] if len(parts) == 3 else _DEFAULT_VARIANTS.get(architecture, "")
    return Platform(parts[0], architecture, variant)


def own() -> Platform:
    """This machine's."""
    machine = os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def asked(text: str | None) -> Platform:
    """What `--platform` says, this machine's without it. Raises SbError."""
    return parse(text) if text else own()


def best(wanted: Platform, offered: Iterable[Platform]) -> int | None:
    """The place of the best match in `offered`, None if nothing runs on `wanted`.

    An exact variant first, then one that isn't said, then an older one (arm/v6 runs on v7).
    """
    ranked = [(rank, place) for place, each in enumerate(offered) if (rank := _rank(wanted, each)) is not None]
    return min(ranked)[1] if ranked else None


def matches(wanted: Platform, offered: str) -> bool:
    """Whether an image that says so of itself is one for `wanted`; one that says nothing is taken at its word."""
    os_, _, rest = offered.partition("/")
    architecture, _, variant = rest.partition("/")
    return not offered or best(wanted, [Platform(os_, architecture, variant)]) is not None


def _rank(wanted: Platform, offered: Platform) -> int | None:
    if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return None
    default = _DEFAULT_VARIANTS.get(wanted.architecture, "")
    mine, its = wanted.variant or default, offered.variant or default
    if mine == its:
        return 0
    if not mine.startswith("v") or not its.startswith("v") or wanted.architecture not in ("arm", "arm64"):
        return None if its else 1
    older = int(mine[1:] or 0) - int(its[1:] or 0) if mine[1:].isdigit() and its[1:].isdigit() else -1
    return 1 + older if older > 0 else None
