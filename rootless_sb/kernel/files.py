"""Files that are written whole or not at all, and locks that their owner's death releases. rename(2), flock(2)."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from rootless_sb.kernel import libc


def write_atomically(directory: int, name: str, data: bytes, *, durable: bool, mode: int = 0o600) -> None:
    """Put a file with this content at `name` in `directory`: readers see the old or the new, never half.

    `durable`: it is on the disk when this returns, so that a crash of the machine leaves
    one of both too. Raises OSError.
    """
    temporary = f".{name}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode, dir_fd=directory)
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        os.unlink(temporary, dir_fd=directory)
        raise
    finally:
        os.close(descriptor)


def sync_file_system(descriptor: int) -> None:
    """Have all that was written to the file system of a file or directory on its disk: syncfs(2). Raises OSError."""
    libc.call("syncfs", descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of it: write(2) may take less when the disk is nearly full. Raises OSError."""
    written = os.write(descriptor, data)
    while written < len(data):
        data = data[written:]
        written = os.write(descriptor, data)


def read(directory: int, name: str) -> bytes:
    """The content of a file. Raises OSError."""
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory), "rb", buffering=0) as file:
        return file.readall()


def read_regular(path: str, most: int = -1) -> bytes | None:
    """What a regular file holds, its first `most` bytes if that isn't negative; None if something else is there: a FIFO
    would have its reader wait for ever. Raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket: open(2)
            return None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with open(descriptor, "rb", buffering=0) as file:
        return file.read(most) or b""


def read_within(directory: str, name: str, most: int) -> bytes:
    """What a regular file holds that nobody vouches for, its first `most` bytes; nothing if there is none. Raises
    OSError.
    """
    try:
        return read_regular(f"{directory}/{name}", most) or b""
    except FileNotFoundError:
        return b""


def lock(directory: int, name: str, *, wait: bool, shared: bool = False, make: bool = True) -> int | None:
    """Lock the file `name` in `directory`; the descriptor that holds the lock until it is closed.

    `shared`: together with others who share it. `make`: make the file if need be. None if somebody else holds it and
    `wait` is false. Raises OSError.
    """
    flags = os.O_RDWR | (os.O_CREAT if make else 0) | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=directory)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    return _locked(descriptor, kind | (0 if wait else fcntl.LOCK_NB))


def share(directory: int, name: str) -> int | None:
    """Share the lock `name` in `directory`, a file that may be one that this user can only read; the descriptor that
    holds the lock until it is closed.

    None if somebody has it alone, or has had it and removed the file. Raises OSError.
    """
    opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    descriptor = _locked(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    if descriptor is not None and os.fstat(descriptor).st_nlink == 0:
        os.close(descriptor)
        return None
    return descriptor


def _locked(descriptor: int, how: int) -> int | None:
    """The descriptor with its file locked as flock(2) is told, or None, and it is closed, if somebody else holds it."""
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def holder(directory: int, name: str) -> int | None:
    """The pid of who took the lock `name` in `directory`, if the kernel tells: proc_locks(5). Raises OSError."""
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    with open("/proc/locks", encoding="ascii") as file:
        for line in file:
            # 1: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF, and with -> after the number where somebody waits for it
            fields = line.split()
            if fields[1] != "->" and fields[5] == place and fields[4].isdecimal():
                return int(fields[4])
    return None


def is_locked(directory: int, name: str) -> bool:
    """Whether somebody holds the lock `name` in `directory`. Raises OSError."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
