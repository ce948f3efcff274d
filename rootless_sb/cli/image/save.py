"""`sb image save`: write an image to an archive."""

from __future__ import annotations

import os
import sys

from rootless_sb.cli import parsing
from rootless_sb.cli.image import lookup
from rootless_sb.errors import Doing, SbError
from rootless_sb.image import reference, saving, surroundings, whole


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
    gathered = whole.gather(found, where.cache)
    known = found.store.names().get(found.image.identifier, [])
    try:
        wanted = reference.parse(parsed.name)
        names = [wanted] if wanted in known else known
    except SbError:  # an id
        names = known
    if parsed.output is None:
        if sys.stdout.isatty():
            raise SbError("an archive is nothing for a terminal", hint=f"sb image save -o FILE {parsed.name}")
        saving.write(sys.stdout.buffer, parsed.format, gathered, names, where.cache)
        return 0
    with Doing(f"cannot write {parsed.output}"):
        fresh = f"{parsed.output}.{os.getpid()}"
        try:
            with open(fresh, "wb") as file:
                saving.write(file, parsed.format, gathered, names, where.cache)
            os.rename(fresh, parsed.output)
        except BaseException:
            if os.path.exists(fresh):
                os.unlink(fresh)
            raise
    return 0
