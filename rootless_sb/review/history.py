"""What was applied before: what the host has had at each path since, so that it isn't taken for the host's own doing.

DIRECTORY/applied        JSON: a path, and the `fuse_overlay.origin` of what is there
DIRECTORY/applied.next   the same, as it is to be once an apply is committed: written before that, so that whoever
                         finishes one that was cut short doesn't take what the host does in between for applied
"""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay import origin
from rootless_sb.kernel import files
from rootless_sb.review.changes import directories_above

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuse_overlay.origin import Origin

_NAME, _NEXT = "applied", "applied.next"


def read(own: int) -> dict[bytes, Origin]:
    """What is known; `own` is the sandbox's directory. Raises OSError."""
    found = {os.fsencode(path): origin.parse(value.encode()) for path, value in _load(own).items()}
    return {path: known for path, known in found.items() if known is not None}


def add(own: int, applied: Iterable[tuple[bytes, os.stat_result | None]]) -> None:
    """Note what is at some paths now, None for nothing. Raises OSError."""
    _write(own, _NAME, applied)


def prepare(own: int, applied: Iterable[tuple[bytes, os.stat_result | None]]) -> None:
    """Note what is at some paths now, for `adopt`. Raises OSError."""
    _write(own, _NEXT, applied)


def adopt(own: int) -> None:
    """Let what was prepared hold, unless it does already. Raises OSError."""
    try:
        os.rename(_NEXT, _NAME, src_dir_fd=own, dst_dir_fd=own)
    except FileNotFoundError:
        return


def drop(own: int) -> None:
    """Forget what was prepared, if anything was. Raises OSError."""
    try:
        os.unlink(_NEXT, dir_fd=own)
    except FileNotFoundError:
        return


def _write(own: int, name: str, applied: Iterable[tuple[bytes, os.stat_result | None]]) -> None:
    """Write down what is known, and what is at some paths now."""
    now = dict(applied)
    others = {path for path, st in now.items() if st is None or not stat.S_ISDIR(st.st_mode)}
    old = ((os.fsencode(path), value) for path, value in _load(own).items())
    known = {
        os.fsdecode(path): value
        for path, value in old
        if path not in others and not others.intersection(directories_above(path))
    }
    for path, st in now.items():
        if st is not None:
            known[os.fsdecode(path)] = origin.encode(origin.of(0, path.lstrip(b"/"), st)).decode()
    files.write_atomically(own, name, json.dumps(known).encode(), durable=False)


def _load(own: int) -> dict[str, str]:
    """The file's document; one that can't be understood says nothing."""
    try:
        document = json.loads(files.read(own, _NAME))
    except FileNotFoundError:
        return {}
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
