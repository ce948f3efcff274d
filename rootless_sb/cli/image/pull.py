"""`sb image pull`: get images from registries."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rootless_sb.cli import parsing
from rootless_sb.image import platform, reference, surroundings
from rootless_sb.image.workers import Workers
from rootless_sb.ui import progress

if TYPE_CHECKING:
    from rootless_sb.image.platform import Platform
    from rootless_sb.image.record import Image


def main(arguments: list[str]) -> int:
    """Get images; their ids go to stdout. Raises SbError."""
    options = parsing.Parser("image pull", "Get images from registries.", "sb image pull ubuntu:24.04")
    options.add_argument("--platform", metavar="OS/ARCH", help="another platform's image (default: this machine's)")
    options.add_argument("-q", "--quiet", action="store_true", help="no progress")
    options.add_argument("name", metavar="NAME", nargs="+", help="an image's name: ubuntu, ghcr.io/a/b:1.2, x@sha256:…")
    parsed = options.parse_strictly(arguments)
    wanted = platform.asked(parsed.platform)
    for name in parsed.name:
        sys.stdout.write(f"{one(name, wanted, quiet=parsed.quiet).identifier}\n")
    return 0


def one(called: str, wanted: Platform, *, quiet: bool) -> Image:
    """Get one image, in sight of who waits for it. Raises SbError."""
    name = reference.parse(called)
    where = surroundings.look()
    with Workers(where.own) as workers, progress.shown(f"pull {name.familiar()}", quiet=quiet) as shown:
        from rootless_sb.image import pull  # after the workers were forked: it is heavy

        return pull.pull(name, wanted, where, workers, shown)
