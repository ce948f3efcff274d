"""`sb cp`: copy files out of a sandbox, or into it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from rootless_sb import sandboxes
from rootless_sb.cli import lookup, output, parsing
from rootless_sb.errors import Doing, SbError
from rootless_sb.review import archiving, copying, making, opening, unpacking
from rootless_sb.ui.changes import shown

if TYPE_CHECKING:
    from fuse_overlay.tree import Tree
    from rootless_sb.cli.lookup import Known

_DESCRIPTION = """\
Copy a file, or a directory with all that is in it, out of a sandbox or into one that doesn't run. What is made on this
machine is yours, what is made in the sandbox belongs to the user that you are there. DST - writes a tar archive to
stdout; SRC - reads one from stdin, for a directory."""

_STREAM = "-"


def main(arguments: list[str]) -> int:
    """Copy in one direction or the other. Raises SbError."""
    options = parsing.Parser("cp", _DESCRIPTION, "sb cp build:/usr/local/bin/tool .")
    options.usage = "sb cp NAME:PATH DST\n       sb cp SRC NAME:PATH"
    options.add_argument("source", metavar="SRC", help="a path, NAME:PATH in a sandbox, or -")
    options.add_argument("target", metavar="DST", help="a path, NAME:PATH in a sandbox, or -")
    parsed = options.parse_strictly(arguments)
    inside, outside = _split(parsed.source), _split(parsed.target)
    if (inside is None) == (outside is None):
        raise SbError("one of both paths is in a sandbox", hint="sb cp NAME:PATH DST, or sb cp SRC NAME:PATH")
    where = lookup.places()
    if inside is not None:
        known = lookup.find(inside[0], where)
        tree, path = opening.tree(known.state, known.directory), _absolute(known, inside[1])
        if parsed.target == _STREAM:
            _write_archive(tree, path, f"{parsed.source} - >FILE.tar")
        else:
            copying.copy_out(tree, path, os.fsencode(parsed.target))
    elif outside is not None:
        _copy_in(lookup.find(outside[0], where), os.fsencode(parsed.source), outside[1])
    return 0


def _write_archive(tree: Tree, path: bytes, words: str) -> None:
    with output.standard_output(f"cannot copy {shown(path)}", f"sb cp {words}") as stdout:
        archive = archiving.Archive(stdout)
        archive.add_path(tree, path)
        archive.close()


def _copy_in(known: Known, source: bytes, path: str) -> None:
    called = known.state.name or known.state.identifier
    streamed = source == _STREAM.encode()
    if streamed:
        if os.isatty(0):
            raise SbError("there is nothing on stdin", hint=f"sb cp - {called}:{path} <FILE.tar")
    else:
        with Doing(f"cannot copy {os.fsdecode(source)}"):
            os.lstat(source)
    with Doing(f"cannot open {known.directory}"):
        held = sandboxes.take(known.directory)
        if held is None:
            raise SbError(f"cannot copy into {called}", sandboxes.holder(known.directory), f"sb stop {called}")
    config = opening.config_of(known.state)
    overlay = opening.overlay(known.state, known.directory)
    maker = making.Maker(overlay, config.own_uid, config.own_gid)
    try:
        if streamed:
            unpacking.unpack(sys.stdin.buffer, overlay, maker, _absolute(known, path))
        else:
            copying.CopyIn(overlay, maker, held.own).copy(source, _absolute(known, path))
    finally:
        overlay.close()
        held.close()


def _split(word: str) -> tuple[str, str] | None:
    """NAME and PATH; None for a path of this machine."""
    name, colon, path = word.partition(":")
    return (name, path) if colon and name and "/" not in name else None


def _absolute(known: Known, path: str) -> bytes:
    """A path in the sandbox; a relative one begins in the working directory of its command."""
    return os.fsencode(os.path.join(known.state.directory, path))
