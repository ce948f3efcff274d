"""`sb image save`: write an image to an archive."""

from __future__ import annotations

import sys

from rootless_sb.cli import output, parsing
from rootless_sb.cli.image import lookup
from rootless_sb.errors import SbError
from rootless_sb.image import saving, surroundings, whole


def main(arguments: list[str]) -> int:
    """Save an image. Raises SbError."""
    options = parsing.Parser("image save", "Write an image to an archive.", "sb image save -o ubuntu.tar ubuntu:24.04")
    formats = (saving.DOCKER, saving.OCI)
    options.add_argument("--format", choices=formats, default=saving.DOCKER, help="the archive's kind")
    options.add_argument("-o", "--output", metavar="FILE", help="where to write it (default: stdout)")
    options.add_argument("name", metavar="NAME", help="an image's name or id")
    parsed = options.parse_strictly(arguments)
    where = surroundings.look()
    found = lookup.find(parsed.name, where.stores)
    gathered = whole.gather(found, where.cache, quiet=False)
    names = lookup.meant(parsed.name, found.store.names().get(found.image.identifier, []))
    if parsed.output is None:
        if sys.stdout.isatty():
            raise SbError("an archive is nothing for a terminal", hint=f"sb image save -o FILE {parsed.name}")
        saving.write(sys.stdout.buffer, parsed.format, gathered, names)
        return 0
    with output.whole_file(parsed.output) as file:
        saving.write(file, parsed.format, gathered, names)
    return 0
