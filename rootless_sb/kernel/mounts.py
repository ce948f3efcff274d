"""Mounts: mount(2), umount2(2), pivot_root(2), and path look-ups that can't leave a given root."""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from rootless_sb.kernel import libc

# <linux/mount.h>
RDONLY = 1
NOSUID = 2
NODEV = 4
NOEXEC = 8
NOATIME = 1024
REMOUNT = 32
BIND = 4096
MOVE = 8192
REC = 16384
PRIVATE = 1 << 18
SLAVE = 1 << 19
RELATIME = 1 << 21
# How statvfs(3) tells the flags that mount(2) sets: <bits/statvfs.h>.
_FLAGS = {
    os.ST_NOSUID: NOSUID,
    os.ST_NODEV: NODEV,
    os.ST_NOEXEC: NOEXEC,
    os.ST_NOATIME: NOATIME,
    os.ST_NODIRATIME: 2048,
    os.ST_RELATIME: RELATIME,
}

_MNT_DETACH = 2

# <linux/mount.h> and <linux/fcntl.h>, for mount_setattr(2), which is there since 5.12
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_AT_RECURSIVE = 0x8000


class _Attributes(ctypes.Structure):
    """struct mount_attr."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd"))


# <linux/openat2.h>
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2). `options` is the file system's own option string. Raises OSError."""
    libc.call(
        "mount",
        os.fsencode(source) if source is not None else None,
        os.fsencode(target),
        kind.encode() if kind is not None else None,
        ctypes.c_ulong(flags),
        os.fsencode(options) if options else None,
    )


def make_read_only(target: str) -> None:
    """Make the mount at `target` read-only and keep its other flags, which can be locked. Raises OSError."""
    found = os.statvfs(target).f_flag
    kept = sum(flag for bit, flag in _FLAGS.items() if found & bit)
    mount(None, target, None, REMOUNT | BIND | RDONLY | kept)


def restrict(target: str, *, read_only: bool) -> None:
    """Give setuid bits and device nodes no effect at and beneath `target`; let nothing be written if `read_only`.

    Raises OSError.
    """
    attributes = _ATTR_NOSUID | _ATTR_NODEV | (_ATTR_RDONLY if read_only else 0)
    wanted = _Attributes(attributes, 0, 0, 0)
    try:
        libc.syscall(
            libc.SYS_MOUNT_SETATTR,
            -100,  # AT_FDCWD
            os.fsencode(target),
            ctypes.c_uint(_AT_RECURSIVE),
            ctypes.byref(wanted),
            ctypes.c_size_t(ctypes.sizeof(wanted)),
        )
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        for each in mounted_beneath(target):
            _restrict_one(each, RDONLY if read_only else 0)


def _restrict_one(target: str, more: int) -> None:
    found = os.statvfs(target).f_flag
    kept = sum(flag for bit, flag in _FLAGS.items() if found & bit) | (RDONLY if found & os.ST_RDONLY else 0)
    mount(None, target, None, REMOUNT | BIND | NOSUID | NODEV | kept | more)


def mounted_beneath(target: str) -> list[str]:
    """The mountpoints at and beneath a path: proc_pid_mountinfo(5). Raises OSError."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        places = [_unescaped(line.split()[4]) for line in file]
    return [place for place in places if place == target or place.startswith(f"{target}/")]


def _unescaped(path: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path


def mount_id(descriptor: int) -> int:
    """The id of the mount that an open file is on: proc_pid_fdinfo(5). Raises OSError."""
    with open(f"/proc/self/fdinfo/{descriptor}", "rb", buffering=0) as file:
        return next(int(line[7:]) for line in file.readall().splitlines() if line.startswith(b"mnt_id:"))


def detach(target: str) -> None:
    """Take the mount at `target` out of the tree now; it ends when its last user does. Raises OSError."""
    libc.call("umount2", os.fsencode(target), _MNT_DETACH)


def detach_if_mounted(target: str) -> None:
    """As `detach`; nothing where no mount is. Raises OSError."""
    try:
        detach(target)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):  # no mountpoint; not in a mount namespace of ours yet
            raise


def is_connected(target: str) -> bool:
    """Whether the FUSE file system mounted at `target` still has its server: without one, every request fails."""
    try:
        os.statvfs(target)
    except OSError as error:
        return error.errno not in (errno.ENOTCONN, errno.ECONNABORTED)
    return True


def pivot_root_here() -> None:
    """Make the working directory the root of the mount namespace and drop the old root.

    pivot_root(2), "pivot_root(".", ".")": the old root ends up stacked on the new one and is detached from there, so no
    directory is needed to put it. Raises OSError.
    """
    libc.syscall(libc.SYS_PIVOT_ROOT, b".", b".")
    detach(".")
    os.chdir("/")


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


# With ".." in a symlink, openat2(2) gives up (EAGAIN) whenever somebody anywhere on the machine renames or mounts
# something meanwhile, and asks to be called again.
_RACES = 1000
_MOST_LINKS = 40  # MAXSYMLINKS, include/linux/namei.h


def open_in_root(root: int, path: str, *, follow: bool = True) -> int:
    """An O_PATH descriptor for `path`, looked up as if the directory `root` were `/`; of a symbolic link at its end
    itself unless it is to be followed.

    Symlinks in it, absolute ones too, lead to places beneath `root`: whoever wrote that tree can't point us elsewhere.
    Raises OSError.
    """
    flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    how = _OpenHow(flags, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    for attempt in range(_RACES):
        try:
            return libc.syscall(
                libc.SYS_OPENAT2, root, os.fsencode(path), ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how))
            )
        except OSError as error:
            if error.errno == errno.ENOSYS:
                break
            if error.errno != errno.EAGAIN or attempt == _RACES - 1:
                raise
        os.sched_yield()
    return walk_in_root(root, path, follow=follow)


def walk_in_root(root: int, path: str, *, follow: bool = True) -> int:
    """As `open_in_root`, one name after the other, for kernels without openat2(2) (before Linux 5.6).

    `..` goes back to the descriptor that one has come from, so nobody who renames a directory meanwhile moves the way.
    """
    passed = [os.open(".", os.O_PATH | os.O_CLOEXEC, dir_fd=root)]
    ahead = path.split("/")[::-1]
    links = 0
    try:
        while ahead:
            name = ahead.pop()
            if name in ("", ".", "..") and not stat.S_ISDIR(os.fstat(passed[-1]).st_mode):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            if name == "..":
                if len(passed) > 1:
                    os.close(passed.pop())
            elif name not in ("", "."):
                passed.append(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=passed[-1]))
                if stat.S_ISLNK(os.fstat(passed[-1]).st_mode) and (follow or ahead):
                    text = os.readlink("", dir_fd=passed[-1])
                    links += 1
                    if links > _MOST_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                    for descriptor in passed[1:] if text.startswith("/") else passed[-1:]:
                        os.close(descriptor)
                    del passed[1 if text.startswith("/") else -1 :]
                    ahead += text.split("/")[::-1]
        return os.dup(passed[-1])
    finally:
        for descriptor in passed:
            os.close(descriptor)
