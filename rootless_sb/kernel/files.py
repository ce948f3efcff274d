"""Files that are written whole or not at all, and locks that their owner's death releases. rename(2), flock(2)."""

from __future__ import annotations

import fcntl
import os


def write_atomically(directory: int, name: str, data: bytes, *, durable: bool) -> None:
    """Put a file of mode 0600 with this content at `name` in `directory`: readers see the old or the new, never half.

    `durable`: it is on the disk when this returns, so that a crash of the machine leaves
    one of both too. Raises OSError.
    """
    temporary = f".{name}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        os.write(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def read(directory: int, name: str) -> bytes:
    """The content of a file. Raises OSError."""
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory), "rb", buffering=0) as file:
        return file.readall()


def lock(directory: int, name: str, *, wait: bool) -> int | None:
    """Lock the file `name` in `directory`, made if need be; the descriptor that holds the lock until it is closed.

    None if somebody else holds it and `wait` is false. Raises OSError.
    """
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def share(directory: int, name: str) -> int | None:
    """Share the lock `name` in `directory` with others who do, so that nobody has it for himself; the descriptor that
    holds it until it is closed.

    None if somebody has it for himself, or whoever that was has removed it. The file may be one that can only be read.
    Raises OSError.
    """
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    if os.fstat(descriptor).st_nlink == 0:
        os.close(descriptor)
        return None
    return descriptor


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
