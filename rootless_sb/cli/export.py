"""`sb export`: a sandbox's files as a tar archive."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from rootless_sb.cli import lookup, output, parsing
from rootless_sb.review import archiving, opening, roots

if TYPE_CHECKING:
    from rootless_sb.cli.lookup import Known

_DESCRIPTION = """\
Write a sandbox's files as a tar archive, with the owners and attributes that it sees: all files of one with --image or
--rootfs, and what was changed of one on this machine's own (what was deleted is an empty file .wh.NAME, as in
images)."""


def main(arguments: list[str]) -> int:
    """Write the archive, to stdout or to a file that is there only when it is complete. Raises SbError."""
    options = parsing.Parser("export", _DESCRIPTION, "sb export -o build.tar build")
    options.add_argument("-o", "--output", metavar="FILE", help="the file to write (default: stdout)")
    options.add_argument("name", metavar="NAME", help="the sandbox's name or id")
    parsed = options.parse_strictly(arguments)
    known = lookup.find(parsed.name, lookup.places())
    if parsed.output is None:
        hint = f"sb export -o {parsed.name}.tar {parsed.name}"
        with output.standard_output(f"cannot export {parsed.name}", hint) as stdout:
            _write(known, stdout)
        return 0
    with output.whole_file(parsed.output) as file:
        _write(known, file)
    return 0


def _write(known: Known, file: IO[bytes]) -> None:
    archive = archiving.Archive(file)
    if roots.is_whole(known.state):
        archive.add_tree(opening.tree(known.state, known.directory))
    else:
        archive.add_changes(opening.view(known.state, known.directory))
    archive.close()
