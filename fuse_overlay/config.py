"""What to serve: plain data that goes from whoever mounts to the server process."""

from __future__ import annotations

import marshal

from fuse_overlay.tuples import NamedTuple

# What an overlay can write records of. A look-up is recorded when it finds nothing because that is hidden.
OPERATIONS = (
    "lookup", "open", "opendir", "create", "mkdir", "mknod", "symlink", "link", "unlink", "rmdir", "rename", "truncate",
    "chmod", "chown", "utimens", "setxattr", "removexattr",
)  # fmt: skip


class Lower(NamedTuple):
    """One read-only directory below the upper.

    `path` is as the server sees it. In a `layer`, whiteouts and opaque marks are interpreted; without it the
    directory is a plain tree (the host's `/`). A `live` one may change underneath us.
    """

    path: bytes
    layer: bool
    live: bool


class Extent(NamedTuple):
    """The ids from `inside` on, `count` of them, that exist in the user namespace which the mount belongs to.

    `outside`: the first of them on the host, which counts with `real_ids` only.
    """

    inside: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    outside: int = 0


class Config(NamedTuple):
    """One overlay.

    `lowers`: topmost first. `upper` and `work`: directories on one file system; None: the overlay is read-only.
    `hidden`: absolute paths, as the server sees them, whose files the merged tree lacks; in the last component `*`
    stands for anything.
    `told`: those of `hidden` whose refused look-ups are told to whoever serves.
    `hidden_names`: directories of these names, anywhere in a live lower, that belong to the server's user and are
    closed to all others are lacking too: other overlays' layers, wherever they lie.
    `replaced`: absolute paths, as the server sees them, whose file is passed over: what lies there in the layers below
    is shown.
    `read_only`: absolute paths in the merged tree. What is there and beneath can't be changed, and nothing made.
    `bytes_max`, `inodes_max`: how much the upper may hold, what is deleted and still open included; None: no limit.
    `bytes_kept`, `inodes_kept`: percents of the upper's file system that stay free; 0: none.
    `audited`: what the server writes records of, as named in OPERATIONS.
    `supplementary_groups`: whether those of the server open files of plain trees.
    `own_uid`, `own_gid`: what files of the server's own user and group are shown as; `own_groups`: more groups whose
    files are shown as own_gid's.
    `uids`, `gids`: the ids that may be shown at all; a file of any other id is shown as own_uid's or own_gid's.
    `real_ids`: the layers are those of the kernel's own overlay in that user namespace. What files show is what they
    are there, nothing is recorded beside them, and the upper's marks are the kernel's.
    """

    lowers: tuple[Lower, ...]
    upper: bytes | None = None
    work: bytes | None = None
    hidden: tuple[bytes, ...] = ()
    told: tuple[bytes, ...] = ()
    hidden_names: tuple[bytes, ...] = ()
    replaced: tuple[bytes, ...] = ()
    read_only: tuple[bytes, ...] = ()
    bytes_max: int | None = None
    inodes_max: int | None = None
    bytes_kept: int = 0
    inodes_kept: int = 0
    audited: tuple[str, ...] = ()
    supplementary_groups: bool = True
    own_uid: int = 0
    own_gid: int = 0
    own_groups: tuple[int, ...] = ()
    uids: tuple[Extent, ...] = ()
    gids: tuple[Extent, ...] = ()
    real_ids: bool = False


def pack(config: Config) -> bytes:
    """The configuration as bytes, for a socket to a server of the same version."""
    plain = {
        **config._asdict(),
        "lowers": tuple(tuple(lower) for lower in config.lowers),
        "uids": tuple(tuple(extent) for extent in config.uids),
        "gids": tuple(tuple(extent) for extent in config.gids),
    }
    return marshal.dumps(plain)


def unpack(data: bytes) -> Config:
    """The configuration that `pack` made these bytes of. Raises ValueError, EOFError or TypeError on others."""
    config = Config(**marshal.loads(data))
    return config._replace(
        lowers=tuple(Lower(*lower) for lower in config.lowers),
        uids=tuple(Extent(*extent) for extent in config.uids),
        gids=tuple(Extent(*extent) for extent in config.gids),
    )
