"""The first request of a mount, FUSE_INIT, and its reply (include/uapi/linux/fuse.h, fuse(4)).

In it kernel and server agree on what each leaves to the other. libfuse and pyfuse3 answer it, and can't ask for all
that we want: see `amended`. All numbers are in the machine's byte order.
"""

from __future__ import annotations

import struct

# struct fuse_in_header: length, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding. Then the beginning of
# struct fuse_init_in, which has grown at its end: major, minor, max_readahead, flags.
_REQUEST = struct.Struct("=IIQQIIIHHIIII")
# struct fuse_out_header: length, error, unique. Then the beginning of struct fuse_init_out, of the same meaning.
_REPLY = struct.Struct("=IiQIIII")

_INIT = 26
_MAJOR = 7

DONT_MASK = 1 << 6  # the umask is for us to apply, or not where a default ACL is inherited
AUTO_INVAL_DATA = 1 << 12  # the kernel drops its cache of a file whose times it finds changed
PARALLEL_DIROPS = 1 << 18  # look-ups in one directory needn't wait for each other
POSIX_ACL = 1 << 20  # the kernel asks for ACLs and enforces them
CACHE_SYMLINKS = 1 << 23
EXPLICIT_INVAL_DATA = 1 << 25  # the kernel drops its cache of a file when we say so
HANDLE_KILLPRIV_V2 = 1 << 28  # we take setuid and capabilities away, so it needn't ask for them before each write
SETXATTR_EXT = 1 << 29  # with an ACL comes whether setgid goes

_WANTED = DONT_MASK | PARALLEL_DIROPS | POSIX_ACL | CACHE_SYMLINKS | HANDLE_KILLPRIV_V2


def offered(request: bytes) -> int:
    """The flags that the kernel offers in a FUSE_INIT request; 0 if it isn't one that we understand."""
    if len(request) < _REQUEST.size:
        return 0
    length, opcode, *_, major, _, _, flags = _REQUEST.unpack_from(request)
    return flags if (length, opcode, major) == (len(request), _INIT, _MAJOR) else 0


def asked(reply: bytes) -> int:
    """The flags in a reply to FUSE_INIT; 0 if it isn't a good one."""
    if len(reply) < _REPLY.size:
        return 0
    length, error, _, major, _, _, flags = _REPLY.unpack_from(reply)
    return flags if (length, error, major) == (len(reply), 0, _MAJOR) else 0


def amended(reply: bytes, flags: int, more: int = 0) -> bytes:
    """The reply to FUSE_INIT with all in it that we want, and `more`, of what was offered, in `flags`.

    The files of a live layer get another inode number when they change, and nobody but the kernel changes any others,
    so of the two ways to drop cached data the explicit one is right. A reply that isn't a good one stays as it is.
    """
    if len(reply) < _REPLY.size:
        return reply
    length, error, unique, major, minor, readahead, changed = _REPLY.unpack_from(reply)
    if (length, error, major) != (len(reply), 0, _MAJOR):
        return reply
    changed |= (_WANTED | more) & flags
    if flags & EXPLICIT_INVAL_DATA:
        changed = changed & ~AUTO_INVAL_DATA | EXPLICIT_INVAL_DATA
    return _REPLY.pack(length, error, unique, major, minor, readahead, changed) + reply[_REPLY.size :]
