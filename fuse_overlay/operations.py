"""The adapter between pyfuse3 and the overlay: it translates arguments, results and errors, and decides nothing."""

from __future__ import annotations

import errno
import os
import stat
import sys
import traceback
from typing import TYPE_CHECKING, TypeVar

from fuse_overlay.ahead import Ahead, Known
from fuse_overlay.creation import Caller
from fuse_overlay.entries import Missing
from fuse_overlay.kernel.shortcut import SHORTCUT
from fuse_overlay.libfuse import pyfuse3
from fuse_overlay.metadata import Wanted
from fuse_overlay.threads import THREADS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from typing import Any, Concatenate, ParamSpec

    from fuse_overlay.ahead import Errand
    from fuse_overlay.entries import Entry
    from fuse_overlay.overlay import Overlay
    from fuse_overlay.refusals import Refusals

    P = ParamSpec("P")
R = TypeVar("R")

# How long, in seconds, the kernel may keep what it was told: of the host's files one, of ours until it is short of
# memory, since nobody but the kernel changes them.
_LIVE = 1.0
_FOREVER = 86_400.0 * 365

# What an interrupted or broken request is answered with.
_UNKNOWN = errno.EIO


def _failed(method: Callable[..., object], error: Exception) -> pyfuse3.FUSEError:
    """What a request ends with that has raised this.

    Any exception but FUSEError would end pyfuse3's loop or leave the request unanswered, and the caller hanging:
    OSError becomes its errno; all else EIO, with the traceback on stderr.
    """
    if isinstance(error, pyfuse3.FUSEError):
        return error
    if isinstance(error, OSError):
        return pyfuse3.FUSEError(error.errno or _UNKNOWN)
    if isinstance(error, MemoryError):
        return pyfuse3.FUSEError(errno.ENOMEM)
    sys.stderr.write(f"fuse-overlay: {method.__name__} failed\n{traceback.format_exc()}")
    return pyfuse3.FUSEError(_UNKNOWN)


def _request(
    method: Callable[Concatenate[FuseOperations, P], R],
) -> Callable[Concatenate[FuseOperations, P], Coroutine[Any, Any, R]]:
    """Make a plain method a request handler."""

    async def handler(self: FuseOperations, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            SHORTCUT.settle()  # what the helper did came before this request: a release may have made room for it
            return method(self, *args, **kwargs)
        except Exception as error:
            raise _failed(method, error) from None

    return handler


def _request_after(
    errands: Callable[..., Iterable[Errand]],
) -> Callable[
    [Callable[Concatenate[FuseOperations, P], R]], Callable[Concatenate[FuseOperations, P], Coroutine[Any, Any, R]]
]:
    """Make a plain method a request handler; what it may have to wait for is seen to beforehand, by errands.

    `errands` says which, given an Ahead and the request's arguments.
    """

    def decorate(
        method: Callable[Concatenate[FuseOperations, P], R],
    ) -> Callable[Concatenate[FuseOperations, P], Coroutine[Any, Any, R]]:
        async def handler(self: FuseOperations, /, *args: P.args, **kwargs: P.kwargs) -> R:
            try:
                SHORTCUT.settle()
                ahead = self._ahead
                known = None
                try:
                    for errand in errands(ahead, *args, **kwargs):
                        known = known or Known()
                        await THREADS.run(errand.ask)
                        ahead.take(errand, known)
                    if known is None:
                        return method(self, *args, **kwargs)
                    SHORTCUT.settle()
                    with ahead.known(known):
                        return method(self, *args, **kwargs)
                finally:
                    if known is not None:
                        ahead.drop(known)
            except Exception as error:
                raise _failed(method, error) from None

        return handler

    return decorate


class FuseOperations(pyfuse3.Operations):
    """pyfuse3's request handlers. What isn't here is answered with ENOSYS once, and the kernel asks no more."""

    supports_dot_lookup = False
    enable_writeback_cache = True
    enable_acl = False

    def __init__(self, overlay: Overlay, refused: Refusals | None = None) -> None:
        """`refused`: who is to hear of look-ups of what is hidden."""
        super().__init__()
        self._overlay = overlay
        self._refused = refused
        self._ahead = Ahead(overlay)
        overlay.tree.close_later = THREADS.close
        SHORTCUT.inform(
            released=overlay.release,
            released_directory=overlay.releasedir,
            forgotten=overlay.forget,
            opened=overlay.opened,
            mode_set=overlay.mode_set,
            settled=overlay.tidy,
        )

    @_request_after(lambda ahead, parent, name, ctx: ahead.entry(parent, name))
    def lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        entry = self._overlay.lookup(parent_inode, name)
        if isinstance(entry, Missing):
            return self._absent(entry, parent_inode, name, ctx)
        return _attributes(entry)

    def _absent(
        self, missing: Missing, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """The answer that lets the kernel remember that there is nothing."""
        if missing.hidden and self._refused is not None:
            self._refused.note(missing.hidden, name)
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = 0
        attributes.entry_timeout = _LIVE if missing.live else _FOREVER
        return attributes

    @_request
    def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for ino, count in inode_list:
            self._overlay.forget(ino, count)
        self._overlay.tidy()

    @_request_after(lambda ahead, inode, ctx: ahead.file(inode))
    def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return _attributes(self._overlay.getattr(inode))

    @_request_after(
        lambda ahead, inode, attr, fields, *_: ahead.changed(inode, attr.st_size if fields.update_size else None)
    )
    def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        wanted = Wanted(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime=attr.st_atime_ns if fields.update_atime else None,
            mtime=attr.st_mtime_ns if fields.update_mtime else None,
        )
        return _attributes(self._overlay.setattr(inode, wanted))

    @_request_after(lambda ahead, inode, ctx: ahead.link_target(inode))
    def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return self._overlay.readlink(inode)

    @_request_after(lambda ahead, parent, name, *_: ahead.new_entry(parent, name))
    def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return _attributes(self._overlay.mknod(parent_inode, name, mode, _caller(ctx)))

    @_request_after(lambda ahead, parent, name, *_: ahead.new_entry(parent, name))
    def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return _attributes(self._overlay.mknod(parent_inode, name, mode | stat.S_IFDIR, _caller(ctx)))

    @_request_after(lambda ahead, parent, name, *_: ahead.new_entry(parent, name))
    def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return _attributes(self._overlay.symlink(parent_inode, name, target, _caller(ctx)))

    @_request_after(lambda ahead, inode, parent, name, ctx: ahead.linked(inode, parent, name))
    def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return _attributes(self._overlay.link(inode, new_parent_inode, new_name))

    @_request_after(lambda ahead, parent, name, ctx: ahead.end_of_entry(parent, name))
    def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._overlay.unlink(parent_inode, name)

    @_request_after(lambda ahead, parent, name, ctx: ahead.end_of_entry(parent, name))
    def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._overlay.rmdir(parent_inode, name)

    @_request_after(lambda ahead, parent, name, to, new, *_: ahead.moved_entry(parent, name, to, new))
    def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        self._overlay.rename(parent_inode_old, name_old, parent_inode_new, name_new, flags)

    @_request_after(lambda ahead, inode, flags, ctx: ahead.opened(inode, flags))
    def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        opened = self._overlay.open(inode, flags)
        return pyfuse3.FileInfo(fh=opened.handle, keep_cache=opened.keep)

    @_request_after(lambda ahead, parent, name, *_: ahead.new_entry(parent, name))
    def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        opened, entry = self._overlay.create(parent_inode, name, mode, flags, _caller(ctx))
        return pyfuse3.FileInfo(fh=opened.handle, keep_cache=opened.keep), _attributes(entry)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        overlay = self._overlay
        try:
            SHORTCUT.settle()
            if not overlay.is_slow(fh):
                return overlay.read(fh, size, off)
            with overlay.descriptor(fh) as fd:
                return await THREADS.run(lambda: os.pread(fd, size, off))
        except Exception as error:
            raise _failed(self.read, error) from None

    @_request
    def write(self, fh: int, off: int, buf: bytes) -> int:
        return self._overlay.write(fh, buf, off)

    @_request
    def release(self, fh: int) -> None:
        self._overlay.release(fh)

    @_request
    def fsync(self, fh: int, datasync: bool) -> None:
        self._overlay.fsync(fh, datasync)

    @_request
    def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return self._overlay.opendir(inode)

    @_request_after(lambda ahead, fh, start, token: ahead.listed(fh, start))
    def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        reply = pyfuse3.readdir_reply
        given = 0
        try:
            for name, entry, cookie in self._overlay.readdir(fh, start_id):
                if not reply(token, name, _attributes(entry), cookie):
                    self._overlay.settle(entry.node)
                    break
                given += 1
                if name not in (b".", b".."):
                    self._overlay.count(entry.node)
        except OSError:
            # What has been given must reach the kernel, or its look-ups were never taken back. The next request
            # begins at the entry that failed, and gets the error.
            if not given:
                raise

    @_request
    def releasedir(self, fh: int) -> None:
        self._overlay.releasedir(fh)

    @_request
    def fsyncdir(self, fh: int, datasync: bool) -> None:
        self._overlay.fsyncdir(fh)

    @_request
    def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        given = self._overlay.statfs()
        data = pyfuse3.StatvfsData()
        data.f_bsize = given.f_bsize
        data.f_frsize = given.f_frsize
        data.f_blocks = given.f_blocks
        data.f_bfree = given.f_bfree
        data.f_bavail = given.f_bavail
        data.f_files = given.f_files
        data.f_ffree = given.f_ffree
        data.f_favail = given.f_favail
        data.f_namemax = given.f_namemax
        return data

    @_request_after(lambda ahead, inode, name, ctx: ahead.value(inode, name))
    def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        return self._overlay.getxattr(inode, name)

    @_request_after(lambda ahead, inode, ctx: ahead.names(inode))
    def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        return self._overlay.listxattr(inode)

    @_request_after(lambda ahead, inode, *_: ahead.changed(inode))
    def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        caller = _caller(ctx)._replace(drops_setgid=SHORTCUT.drops_setgid(inode))
        self._overlay.setxattr(inode, name, value, caller)

    @_request_after(lambda ahead, inode, *_: ahead.changed(inode))
    def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._overlay.removexattr(inode, name)


def _caller(ctx: pyfuse3.RequestContext) -> Caller:
    return Caller(ctx.uid, ctx.gid, ctx.umask)


def _attributes(entry: Entry) -> pyfuse3.EntryAttributes:
    """An entry in pyfuse3's terms."""
    node, st, owner, nlink, live, live_attributes = entry
    attributes = pyfuse3.EntryAttributes()
    attributes.st_ino = node.ino
    attributes.entry_timeout = _LIVE if live else _FOREVER
    attributes.attr_timeout = _LIVE if live_attributes else _FOREVER
    attributes.st_mode = node.kind | owner.mode
    attributes.st_nlink = nlink
    attributes.st_uid = owner.uid
    attributes.st_gid = owner.gid
    attributes.st_rdev = st.st_rdev if node.rdev is None else node.rdev
    attributes.st_size = st.st_size
    attributes.st_blksize = st.st_blksize
    attributes.st_blocks = st.st_blocks
    attributes.st_atime_ns = st.st_atime_ns
    attributes.st_mtime_ns = st.st_mtime_ns
    attributes.st_ctime_ns = st.st_ctime_ns
    return attributes
