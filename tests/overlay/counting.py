"""Counts requests in the server process: those that came to Python, and with the compiled helper all."""

from __future__ import annotations

import functools
import json
from collections import Counter
from typing import TYPE_CHECKING

from fuse_overlay.kernel.shortcut import SHORTCUT
from fuse_overlay.operations import FuseOperations

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Opcodes (linux/fuse.h) under the names of pyfuse3's handlers. How many look-ups are taken back, and when, is the
# kernel's memory's business.
_NAMES = {
    1: "lookup", 3: "getattr", 4: "setattr", 5: "readlink", 6: "symlink", 8: "mknod", 9: "mkdir", 10: "unlink",
    11: "rmdir", 12: "rename", 13: "link", 14: "open", 15: "read", 16: "write", 17: "statfs", 18: "release",
    20: "fsync", 21: "setxattr", 22: "getxattr", 23: "listxattr", 24: "removexattr", 25: "flush", 27: "opendir",
    29: "releasedir", 30: "fsyncdir", 34: "access", 35: "create", 43: "fallocate", 44: "readdir", 45: "rename",
    46: "lseek", 47: "copy_file_range",
}  # fmt: skip


def watch() -> Counter[str]:
    """Count from now on what comes to Python."""
    seen: Counter[str] = Counter()
    for name in set(_NAMES.values()):
        handler = getattr(FuseOperations, name, None)
        if handler is not None:
            setattr(FuseOperations, name, _counting(seen, name, handler))
    return seen


def _counting(seen: Counter[str], name: str, handler: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(handler)
    async def counted(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever the handler takes and gives
        seen[name] += 1
        return await handler(*arguments, **named)

    return counted


def write(path: str, seen: Counter[str]) -> None:
    """Write both: by name the number that came to Python, and the number that came at all (null without the helper)."""
    whole: Counter[str] | None = None
    if SHORTCUT.loaded:
        whole = Counter()
        for opcode, count in enumerate(SHORTCUT.counts()):
            if count and opcode in _NAMES:
                whole[_NAMES[opcode]] += count
    with open(path, "w", encoding="ascii") as file:
        json.dump({"python": seen, "all": whole}, file)
