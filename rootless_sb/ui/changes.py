"""Changes as lines, as a tree, as a patch and as the facts that JSON has of them. Pure."""

from __future__ import annotations

import base64
import stat
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.review.changes import ADDED, CHANGED, DATA, DELETED, TYPE, total
from rootless_sb.ui.messages import human_size, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rootless_sb.review.changes import Change, Item

_WORDS = {ADDED: "added", CHANGED: "changed", DELETED: "deleted"}
# What git escapes in names by a letter (its quote.c); all else that isn't printable ASCII it writes in octal.
_LETTERS = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}


class Text(NamedTuple):
    """The lines of a file before and after, each with its end; None: it isn't text, or too long to be compared."""

    before: list[bytes] | None
    after: list[bytes] | None


def shown(path: bytes) -> str:
    """A path that can be written to a terminal."""
    return printable(path.decode("utf-8", "surrogateescape"))


def line(change: Change) -> str:
    """`A path`."""
    return f"{change.kind} {shown(change.path)}"


def facts(change: Change) -> dict[str, object]:
    """What JSON says of a change."""
    found: dict[str, object] = {"kind": change.kind}
    try:
        found["path"] = change.path.decode()
    except UnicodeDecodeError:
        found["path_b64"] = base64.b64encode(change.path).decode()
    found |= {"type": change.item.type, "size": change.item.size}
    if change.kind == CHANGED:
        found["changed"] = list(change.aspects)
    return found


def summary(changes: Sequence[Change]) -> str:
    """`3 added, 1 changed (4.1 kB)`."""
    counts = ", ".join(f"{count} {_WORDS[kind]}" for kind, count in total(changes).items() if count)
    size = sum(each.item.size for each in changes if each.kind != DELETED)
    return f"{counts} ({human_size(size)})" if counts else "no changes"


class _Branch:
    """A directory in the tree: what is in it, the change that it is itself, and the bytes of all beneath."""

    __slots__ = ("below", "change", "size")

    def __init__(self) -> None:
        self.below: dict[bytes, _Branch] = {}
        self.change: Change | None = None
        self.size = 0


def tree(changes: Sequence[Change]) -> Iterator[str]:
    """The changes as an indented tree: in what each has changed, and the bytes that it, or all beneath it, has now."""
    root = _Branch()
    for each in changes:
        branch = root
        size = each.item.size if each.kind != DELETED else 0
        for name in each.path.split(b"/")[1:]:
            branch = branch.below.setdefault(name, _Branch())
            branch.size += size
        branch.change = each
    waiting = [(b"", root, -1)]
    while waiting:
        path, branch, depth = waiting.pop()
        while depth >= 0 and branch.change is None and len(branch.below) == 1:
            ((name, only),) = branch.below.items()
            path, branch = path + b"/" + name, only
        if depth >= 0:
            yield _tree_line(path, branch, depth)
        children = sorted(branch.below.items(), reverse=True)
        waiting += [((b"/" if depth < 0 else b"") + name, below, depth + 1) for name, below in children]


def _tree_line(path: bytes, branch: _Branch, depth: int) -> str:
    change = branch.change
    slash = "/" if branch.below or (change is not None and change.item.kind == stat.S_IFDIR) else ""
    notes = list(change.aspects) if change is not None else []
    if change is None or change.kind != DELETED:
        notes.append(human_size(branch.size))
    letter = change.kind if change is not None else " "
    return f"{letter} {'  ' * depth}{shown(path)}{slash}" + (f"  ({', '.join(notes)})" if notes else "")


def stat_line(change: Change, text: Text, width: int) -> str:
    """`A path | +12 -3`, or the sizes of what isn't text."""
    name = line(change).ljust(width)
    if change.kind == CHANGED and not {DATA, TYPE}.intersection(change.aspects):
        return f"{name} | {', '.join(change.aspects)}"
    if text.before is not None and text.after is not None:
        import difflib

        moved = difflib.SequenceMatcher(None, text.before, text.after, autojunk=True).get_opcodes()
        added = sum(end - begin for tag, _, _, begin, end in moved if tag != "equal")
        taken = sum(end - begin for tag, begin, end, _, _ in moved if tag != "equal")
        return f"{name} | +{added} -{taken}"
    before, after = change.before, change.after
    if before is not None and after is not None:
        return f"{name} | {_extent(before)} -> {_extent(after)}"
    return f"{name} | {_extent(change.item)}"


def _extent(item: Item) -> str:
    return human_size(item.size) if item.kind == stat.S_IFREG else item.type


def patch(change: Change, text: Text) -> Iterator[bytes]:
    """A change in the form of git's patches, which patch(1) and git-apply(1) read: the lines, each with its end.

    Directories, and what isn't text, are comments in it.
    """
    old, new = _quoted(b"a" + change.path), _quoted(b"b" + change.path)
    before, after = _git_mode(change.before), _git_mode(change.after)
    if not before and not after:
        yield f"# {line(change)} ({change.item.type})\n".encode()
        return
    yield f"diff --git {old} {new}\n".encode()
    if not before:
        yield f"new file mode {after}\n".encode()
    elif not after:
        yield f"deleted file mode {before}\n".encode()
    elif before != after:
        yield f"old mode {before}\nnew mode {after}\n".encode()
    if text.before is None or text.after is None:
        if change.kind != CHANGED or DATA in change.aspects or TYPE in change.aspects:
            yield f"Binary files {old if before else '/dev/null'} and {new if after else '/dev/null'} differ\n".encode()
        return
    if text.before == text.after:
        return
    yield f"--- {old if before else '/dev/null'}\n+++ {new if after else '/dev/null'}\n".encode()
    yield from _hunks(text.before, text.after)


def _hunks(before: list[bytes], after: list[bytes]) -> Iterator[bytes]:
    import difflib

    # A byte is a character: nothing is lost, and nothing need be decodable.
    old, new = ([each.decode("latin-1") for each in lines] for lines in (before, after))
    for number, each in enumerate(difflib.unified_diff(old, new)):
        if number < 2:  # the names, which are git's here
            continue
        data = each.encode("latin-1")
        yield data if data.endswith(b"\n") else data + b"\n\\ No newline at end of file\n"


def _git_mode(item: Item | None) -> str:
    """The mode as git writes it; empty for what it doesn't know: directories and special files."""
    if item is None:
        return ""
    if item.kind == stat.S_IFLNK:
        return "120000"
    return f"100{item.owner.mode & 0o777:03o}" if item.kind == stat.S_IFREG else ""


def _quoted(path: bytes) -> str:
    """A path as git writes it: between quotes if it needs escapes."""
    if all(0x20 <= byte < 0x7F and byte not in (34, 92) for byte in path):
        return path.decode()
    escaped = (
        f"\\{_LETTERS[byte]}" if byte in _LETTERS else chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"
        for byte in path
    )
    return f'"{"".join(escaped)}"'


def document(key: str, entries: Iterable[dict[str, object]]) -> dict[str, object]:
    """A JSON document of these entries."""
    return {"schema": 1, key: list(entries)}
