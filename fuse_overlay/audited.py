"""The adapter of an overlay whose use is recorded: each request handler notes what came of it."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, TypeVar

from fuse_overlay.audit import Record
from fuse_overlay.kernel.shortcut import SHORTCUT
from fuse_overlay.libfuse import pyfuse3
from fuse_overlay.operations import FuseOperations

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fuse_overlay.entries import Missing
    from fuse_overlay.overlay import Overlay
    from fuse_overlay.refusals import Refusals

R = TypeVar("R")

# The last one asks for both rights, and gives neither (open(2), "access mode 3").
_MODES = {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "rw", os.O_ACCMODE: "rw"}


class AuditedOperations(FuseOperations):
    """Hands a record of each request to `put`, if its operation is in `audited`.

    Reads and writes are in what was opened: the kernel's cache does them later, and in nobody's name. What is looked
    up is noted if it is hidden. What the kernel refuses by itself, for a file's mode, never comes here.
    """

    def __init__(
        self, overlay: Overlay, audited: frozenset[str], put: Callable[[Record], None], refused: Refusals | None = None
    ) -> None:
        super().__init__(overlay, refused)
        self._audited = audited
        self._put = put
        SHORTCUT.watch()

    def _absent(
        self, missing: Missing, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if missing.hidden is not None:
            self._note("lookup", ctx, self._overlay.path(parent_inode, name), errno.ENOENT)
        return super()._absent(missing, parent_inode, name, ctx)

    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        change = super().setattr(inode, attr, fields, fh, ctx)
        return await self._noted(_kind_of_change(fields), ctx, self._overlay.path(inode), change)

    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        made = super().mknod(parent_inode, name, mode, rdev, ctx)
        return await self._noted("mknod", ctx, self._overlay.path(parent_inode, name), made)

    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        made = super().mkdir(parent_inode, name, mode, ctx)
        return await self._noted("mkdir", ctx, self._overlay.path(parent_inode, name), made)

    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        made = super().symlink(parent_inode, name, target, ctx)
        return await self._noted("symlink", ctx, self._overlay.path(parent_inode, name), made)

    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        made = super().link(inode, new_parent_inode, new_name, ctx)
        new = self._overlay.path(new_parent_inode, new_name)
        return await self._noted("link", ctx, self._overlay.path(inode), made, to=new)

    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        removed = super().unlink(parent_inode, name, ctx)
        await self._noted("unlink", ctx, self._overlay.path(parent_inode, name), removed)

    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        removed = super().rmdir(parent_inode, name, ctx)
        await self._noted("rmdir", ctx, self._overlay.path(parent_inode, name), removed)

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        renamed = super().rename(parent_inode_old, name_old, parent_inode_new, name_new, flags, ctx)
        new = self._overlay.path(parent_inode_new, name_new)
        await self._noted("rename", ctx, self._overlay.path(parent_inode_old, name_old), renamed, to=new)

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        opened = super().open(inode, flags, ctx)
        return await self._noted("open", ctx, self._overlay.path(inode), opened, mode=_MODES[flags & os.O_ACCMODE])

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        made = super().create(parent_inode, name, mode, flags, ctx)
        path = self._overlay.path(parent_inode, name)
        return await self._noted("create", ctx, path, made, mode=_MODES[flags & os.O_ACCMODE])

    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return await self._noted("opendir", ctx, self._overlay.path(inode), super().opendir(inode, ctx))

    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        change = super().setxattr(inode, name, value, ctx)
        await self._noted("setxattr", ctx, self._overlay.path(inode), change)

    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        change = super().removexattr(inode, name, ctx)
        await self._noted("removexattr", ctx, self._overlay.path(inode), change)

    async def _noted(
        self,
        op: str,
        ctx: pyfuse3.RequestContext,
        path: bytes,
        request: Awaitable[R],
        *,
        to: bytes = b"",
        mode: str = "",
    ) -> R:
        """Await a request, and note what came of it. `path` and `to` are where things were before."""
        try:
            result = await request
        except pyfuse3.FUSEError as error:
            self._note(op, ctx, path, error.errno, to, mode)
            raise
        self._note(op, ctx, path, 0, to, mode)
        return result

    def _note(
        self, op: str, ctx: pyfuse3.RequestContext, path: bytes, error: int, to: bytes = b"", mode: str = ""
    ) -> None:
        if op in self._audited:
            self._put(Record(time.time_ns(), op, path, error, ctx.pid, _comm(ctx.pid), to, mode))


def _kind_of_change(fields: pyfuse3.SetattrFields) -> str:
    if fields.update_size:
        return "truncate"
    if fields.update_uid or fields.update_gid:
        return "chown"
    return "chmod" if fields.update_mode else "utimens"


def _comm(pid: int) -> bytes:
    """The name of a process (proc_pid_comm(5)); empty if it is gone."""
    try:
        with open(f"/proc/{pid}/comm", "rb", buffering=0) as file:
            return (file.read(64) or b"").rstrip(b"\n")
    except OSError:
        return b""
