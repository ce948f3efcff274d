"""pyfuse3, loaded after the helper that has to come before it (kernel/shortcut.py): import it from here.

It imports trio and, for its own version, importlib.metadata. These take three times as long as all else that a server
loads, and nothing of them is used by then: `loop` puts something else in the place of trio, which it imports where it
has a use for it. So empty modules stand for them meanwhile.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from fuse_overlay.kernel import shortcut as _shortcut  # noqa: F401 - for its effect

__all__ = ["pyfuse3"]


def _import() -> ModuleType:
    absent = {name: module for name, module in _stand_ins().items() if name not in sys.modules}
    sys.modules.update(absent)
    try:
        import pyfuse3
    finally:
        for name in absent:
            del sys.modules[name]
    return pyfuse3


def _stand_ins() -> dict[str, ModuleType]:
    trio, metadata = ModuleType("trio"), ModuleType("importlib.metadata")

    def version(name: str) -> str:
        raise LookupError(name)

    metadata.__dict__.update(PackageNotFoundError=LookupError, version=version)
    return {"trio": trio, "importlib.metadata": metadata}


if TYPE_CHECKING:
    import pyfuse3
else:
    pyfuse3 = _import()
