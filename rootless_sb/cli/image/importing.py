"""`sb image import`: make an image of a root file system."""

from __future__ import annotations

import os
import sys

from rootless_sb.cli import parsing
from rootless_sb.image import platform, reference, surroundings
from rootless_sb.image.decompression import Limits
from rootless_sb.image.workers import Workers
from rootless_sb.ui import progress


def main(arguments: list[str]) -> int:
    """Import a root file system; the image's id goes to stdout. Raises SbError."""
    description = "Make an image of a root file system: a tar archive, compressed or not, or a directory."
    options = parsing.Parser("image import", description, "sb image import rootfs.tar.xz mine:1")
    options.add_argument("--platform", metavar="OS/ARCH", help="what it is for (default: this machine's)")
    options.add_argument("-q", "--quiet", action="store_true", help="no progress")
    options.add_argument("source", metavar="SOURCE", help="the archive or directory; - is stdin")
    options.add_argument("name", metavar="NAME", nargs="?", help="what to call the image")
    parsed = options.parse_strictly(arguments)
    wanted = platform.asked(parsed.platform)
    names = (reference.parse(parsed.name),) if parsed.name else ()
    where = surroundings.look()
    with Workers(where.own) as workers, progress.shown(f"import {parsed.source}", quiet=parsed.quiet) as shown:
        from rootless_sb.image import importing, load, spooling

        is_directory = os.path.isdir(parsed.source)
        with importing.archive_of(parsed.source) if is_directory else spooling.opened(parsed.source) as file:
            source = importing.Rootfs(file, Limits(), wanted)
            loaded = load.add(source, source.digest, names, wanted, where, workers, shown)
    sys.stdout.write(f"{loaded.image.identifier}\n")
    return 0
