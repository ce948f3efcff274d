"""What serves a sandbox's files: our own overlay, or the kernel's, and what that one can't do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless_sb.errors import SbError

if TYPE_CHECKING:
    from rootless_sb.spec import RunSpec

FUSE = "fuse"
KERNEL = "kernel"
ENGINES = (FUSE, KERNEL)

HINT = "leave out --engine kernel: sb's own overlay does it"


def require(wanted: RunSpec) -> None:
    """Refuse what the engine that is asked for can't do. Raises SbError."""
    if wanted.engine != KERNEL:
        return
    if wanted.rootfs is None and not wanted.image:
        # Its lower directories may not change underneath (Documentation/filesystems/overlayfs.rst), nor can secrets be
        # hidden in them.
        raise SbError("--engine kernel", "it can't show this machine's own files", f"--rootfs or --image; or {HINT}")
    refused = {
        "--hide": wanted.hidden,
        "--read-only-path": wanted.read_only_paths,
        "--disk": wanted.disk,
        "--inodes": wanted.inodes,
        "--audit": wanted.audit,
    }
    for option, value in refused.items():
        if value:
            raise SbError(f"--engine kernel and {option}", "the kernel's overlay has nothing like it", HINT)


def mount_options(lowers: tuple[str, ...], upper: str, work: str) -> str:
    """overlayfs' options, for paths without `:`, `,` and `\\`: userxattr makes its marks user.overlay.*, which a user
    namespace's root may set (Documentation/filesystems/overlayfs.rst, "User xattr"). The rest is what the marks of our
    own overlay can say: no redirects, no metadata without its data, no index.
    """
    parts = (f"lowerdir={':'.join(lowers)}", f"upperdir={upper}", f"workdir={work}", "userxattr")
    return ",".join(parts)
