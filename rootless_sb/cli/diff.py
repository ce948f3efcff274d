"""`sb diff`: what a sandbox changed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rootless_sb.cli import lookup, parsing
from rootless_sb.errors import Doing
from rootless_sb.review import merged, opening, texts
from rootless_sb.ui import changes as shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from rootless_sb.review.changes import Change
    from rootless_sb.review.layer import LayerView

_DESCRIPTION = """\
List what a sandbox changed: A for added, C for changed, D for deleted (a directory with all that was in it). Data,
mode, owner, extended attributes and type count; times don't. Of a sandbox that runs: what has been written by now."""


def main(arguments: list[str]) -> int:
    """Print the changes. Raises SbError."""
    parsed = parser().parse_strictly(arguments)
    known = lookup.find(parsed.name, lookup.places())
    view = opening.view(known.state, known.directory)
    with Doing(f"cannot read what {parsed.name} changed"):
        found = view.changes()
    for part in _output(parsed, view, found):
        sys.stdout.buffer.write(part)
    return 0


def parser() -> parsing.Parser:
    """The options of `sb diff`."""
    options = parsing.Parser("diff", _DESCRIPTION, "sb diff --tree build")
    forms = options.add_mutually_exclusive_group()
    forms.add_argument("--tree", action="store_true", help="as a tree, with sizes")
    forms.add_argument("--patch", action="store_true", help="as a patch, for text")
    forms.add_argument("--stat", action="store_true", help="with the number of lines that came and went")
    forms.add_argument("-z", "--null", action="store_true", help="names as they are, a NUL after each line")
    forms.add_argument("--json", action="store_true", help="print JSON")
    options.add_argument("name", metavar="NAME", help="the sandbox's name or id")
    return options


def _output(parsed: argparse.Namespace, view: LayerView, found: list[Change]) -> Iterator[bytes]:
    if parsed.json:
        import json

        yield json.dumps(shown.document("changes", map(shown.facts, found)), indent=2).encode() + b"\n"
    elif parsed.null:
        yield b"".join(b"%s %s\0" % (each.kind.encode(), each.path) for each in found)
    elif parsed.patch:
        for each, text in _texts(view, found):
            yield from shown.patch(each, text)
    elif parsed.stat:
        width = max((len(shown.line(each)) for each in found), default=0)
        for each, text in _texts(view, found):
            yield _line(shown.stat_line(each, text, width))
        yield _line(shown.summary(found))
    else:
        for line in shown.tree(found) if parsed.tree else map(shown.line, found):
            yield _line(line)


def _texts(view: LayerView, found: list[Change]) -> Iterator[tuple[Change, shown.Text]]:
    """The changes with the lines of each file before and after; without those that go meanwhile. Raises SbError."""
    for change in found:
        with Doing(f"cannot read {shown.shown(change.path)}"):
            try:
                text = texts.text_of(view, change)
            except OSError as error:
                if merged.is_gone(error):
                    continue
                raise
        yield change, text


def _line(text: str) -> bytes:
    return f"{text}\n".encode()
