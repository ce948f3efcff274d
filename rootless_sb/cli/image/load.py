"""`sb image load`: take images from an archive or an OCI layout."""

from __future__ import annotations

import os
import sys

from rootless_sb.cli import parsing
from rootless_sb.image import platform, surroundings
from rootless_sb.image.decompression import Limits
from rootless_sb.image.workers import Workers
from rootless_sb.ui import progress


def main(arguments: list[str]) -> int:
    """Load images; their names, or ids if they have none, go to stdout. Raises SbError."""
    description = "Take images from an archive: docker's, OCI's, compressed or not, or from an OCI layout."
    options = parsing.Parser("image load", description, "sb image load -i image.tar")
    options.add_argument("-i", "--input", metavar="FILE", default="-", help="the archive or layout (default: stdin)")
    options.add_argument("--platform", metavar="OS/ARCH", help="another platform's image (default: this machine's)")
    options.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parsed = options.parse_strictly(arguments)
    wanted = platform.asked(parsed.platform)
    where = surroundings.look()
    with Workers(where.own) as workers, progress.shown(f"load {parsed.input}", quiet=parsed.quiet) as shown:
        from rootless_sb.image import archive, load, spooling

        if os.path.isdir(parsed.input):
            files: archive.Files = archive.DirectoryFiles(parsed.input)
        else:
            files = archive.TarFiles(spooling.plain(spooling.opened(parsed.input), Limits()), parsed.input)
        loaded = load.load(files, wanted, where, workers, shown)
    for image, names in loaded:
        sys.stdout.write("".join(f"{name.familiar()}\n" for name in names) or f"{image.identifier}\n")
    return 0
