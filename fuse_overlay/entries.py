"""What a name stands for in the merged tree, and what is shown of a file."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

from fuse_overlay.errors import failure
from fuse_overlay.ownership import Device
from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    import os

    from fuse_overlay.inodes import Key, Node
    from fuse_overlay.layers import Layer
    from fuse_overlay.ownership import Owner

NAME_MAX = 255


class Found(NamedTuple):
    """What a name stands for.

    `source` is the topmost layer that has it, `st` what it is there; `dirs` are the layers whose directories of this
    name are merged, and `keys` which ones they are. `live`: a live layer had a say in it.
    """

    source: Layer
    st: os.stat_result
    dirs: tuple[Layer, ...]
    keys: tuple[Key, ...]
    live: bool


class Missing(NamedTuple):
    """A name stands for nothing. `live`: it might tomorrow, by no doing of ours. `hidden`: as `Hiding.hides` has it."""

    live: bool
    hidden: bytes | None = None


class Entry(NamedTuple):
    """A node with its attributes: `st` of the real file, and the owner, link count and lifetime to show.

    `live`: what is at the name may change underneath; `live_attributes`: the attributes may.
    """

    node: Node
    st: os.stat_result
    owner: Owner
    nlink: int
    live: bool
    live_attributes: bool

    @property
    def device(self) -> Device | None:
        """The device node that this is, whether the real file is one or stands for one."""
        if self.node.kind not in (stat.S_IFCHR, stat.S_IFBLK):
            return None
        return self.node.device or Device(self.node.kind, self.st.st_rdev)


def check_name(name: bytes) -> None:
    """Refuse what isn't one component of a path, whoever sent it. Raises OSError."""
    if len(name) > NAME_MAX:
        raise failure(errno.ENAMETOOLONG)
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise failure(errno.EINVAL)
