"""The layer of files that sb makes for a sandbox on the host's view in place of some that its user can't read.

    DIRECTORY/generated/etc/shadow, gshadow

It lies below the host's tree, which passes these paths over (`Config.replaced`): so directories are the host's own, and
nothing of this is in the sandbox's changes. It is made once, with the sandbox.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuse_overlay import ownership
from rootless_sb import shadow
from rootless_sb.kernel import files
from rootless_sb.plan import GENERATED as PLACE

if TYPE_CHECKING:
    from collections.abc import Iterable

_NEW = f".{PLACE}"
_MODE = 0o640
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_TABLE_MAX = 1 << 26  # bytes
_GROUP = b"shadow"
# Each with the table that it is made of.
_SOURCES = {"/etc/shadow": ("passwd", shadow.shadow), "/etc/gshadow": ("group", shadow.gshadow)}


def make(own: int, paths: Iterable[str]) -> None:
    """Make the layer in a sandbox's directory, open as `own`, with the files at these paths; nothing if it is there.

    Raises OSError.
    """
    if os.access(PLACE, os.F_OK, dir_fd=own):
        return
    for name in (_NEW, f"{_NEW}/etc"):
        os.makedirs(f"/proc/self/fd/{own}/{name}", 0o700, exist_ok=True)
    root, etc = (os.open(f"{_NEW}{name}", _DIRECTORY, dir_fd=own) for name in ("", "/etc"))
    try:
        records = {os.path.basename(path).encode(): _owner() for path in paths}
        for path in paths:
            table, make_text = _SOURCES[path]
            files.write_atomically(etc, os.path.basename(path), make_text(_table(table)), durable=False)
        _record(root, etc, records)
    finally:
        os.close(root)
        os.close(etc)
    os.rename(_NEW, PLACE, src_dir_fd=own, dst_dir_fd=own)


def made(directory: str) -> tuple[str, ...]:
    """The paths of the files that were made for the sandbox in `directory`."""
    return tuple(path for path in _SOURCES if os.path.exists(f"{directory}/{PLACE}{path}"))


def _table(name: str) -> bytes:
    return files.read_within("/etc", name, _TABLE_MAX)


def _owner() -> ownership.Owner:
    """root, and the group that may look at passwords where there is one."""
    lines = (line.split(b":") for line in _table("group").splitlines())
    group = next((int(line[2]) for line in lines if line[0] == _GROUP and len(line) > 2 and line[2].isdigit()), 0)
    return ownership.Owner(0, group, _MODE)


def _record(root: int, etc: int, owners: dict[bytes, ownership.Owner]) -> None:
    """Have the layer's files shown as theirs: by attributes, or beside them where there can be none."""
    plain = ownership.format_record(ownership.Owner(0, 0, 0o755))
    try:
        os.setxattr(root, ownership.XATTR, plain)  # says that there are more
    except OSError:
        from fuse_overlay import indexes

        indexes.write(root, {})
        indexes.write(etc, {name: {ownership.XATTR: ownership.format_record(owner)} for name, owner in owners.items()})
        return
    for name, owner in owners.items():
        os.setxattr(f"/proc/self/fd/{etc}/{os.fsdecode(name)}", ownership.XATTR, ownership.format_record(owner))
