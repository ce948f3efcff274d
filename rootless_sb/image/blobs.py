"""The cache of blobs as registries have them: compressed layers and configurations, by digest.

CACHE/sha256/HEX       a whole blob, checked      CACHE/sha256/.HEX       one that is on its way, locked by whoever
fetches it: what is there of it when that one dies is where the next one goes on
"""

from __future__ import annotations

import hashlib
import os
from typing import IO, TYPE_CHECKING

from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import files

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 1 << 18  # bytes read at once
_HINT = "make room: sb image prune, sb prune; or set XDG_CACHE_HOME to a directory on another disk"


class Cache:
    """The blobs in the directory `path`, which is made when the first one comes."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def place(self, digest: str) -> str:
        """The path that a whole blob has."""
        return f"{self.path}/{digest.replace(':', '/')}"

    def has(self, digest: str, size: int | None = None) -> bool:
        """Whether a blob is here, whole."""
        try:
            found = os.stat(self.place(digest)).st_size
        except OSError:
            return False
        return size is None or found == size

    def open(self, digest: str) -> IO[bytes]:
        """A whole blob, to read. Raises SbError when it isn't here."""
        try:
            return open(self.place(digest), "rb")
        except OSError as error:
            why = error.strerror or str(error)
            raise SbError(
                f"the blob {digest} is gone from {self.path}", why, "sb image pull fetches it again"
            ) from error

    def read(self, digest: str) -> bytes:
        """What a small blob holds. Raises SbError."""
        with self.open(digest) as file:
            return file.read()

    def drop_if_damaged(self, digest: str) -> bool:
        """Remove a blob whose bytes have another digest by now; whether that was needed. Raises SbError."""
        have = hashlib.new(digest.partition(":")[0])
        with Doing(f"cannot read the blob {digest}"):
            try:
                with open(self.place(digest), "rb") as file:
                    while data := file.read(CHUNK):
                        have.update(data)
            except FileNotFoundError:
                return False
            if f"{have.name}:{have.hexdigest()}" == digest:
                return False
            os.unlink(self.place(digest))
        return True

    def begin(self, digest: str, size: int) -> Partial | None:
        """A blob of so many bytes that is to come, locked; None while somebody else fetches it, or once it is here.

        Raises SbError.
        """
        directory = self._directory(digest)
        name = digest.partition(":")[2]
        try:
            with Doing(f"cannot write to {self.path}", _HINT):
                lock = files.lock(directory, f".{name}", wait=False)
                if lock is None:
                    return None
                if not _is_at(lock, directory, f".{name}"):  # whoever had it has just finished: this is the whole blob
                    os.close(lock)
                    return None
                if self.has(digest, size):  # since the caller looked, and the lock's file is a new one
                    os.unlink(f".{name}", dir_fd=directory)
                    os.close(lock)
                    return None
                return Partial(os.dup(directory), name, lock, digest)
        finally:
            os.close(directory)

    def drop(self, needed: set[str]) -> int:
        """Remove all blobs but the `needed` ones, and all that nobody is fetching; the bytes freed. Raises OSError."""
        freed = 0
        for algorithm in ("sha256", "sha512"):
            path = f"{self.path}/{algorithm}"
            names = [name for name in _names(path) if f"{algorithm}:{name}" not in needed]
            if not names:
                continue
            directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for name in names:
                lock = files.lock(directory, name, wait=False) if name.startswith(".") else None
                if name.startswith(".") and lock is None:
                    continue
                freed += os.stat(name, dir_fd=directory).st_blocks * 512
                os.unlink(name, dir_fd=directory)
                if lock is not None:
                    os.close(lock)
            os.close(directory)
        return freed

    def _directory(self, digest: str) -> int:
        path = f"{self.path}/{digest.partition(':')[0]}"
        with Doing(f"cannot write to {self.path}", _HINT):
            os.makedirs(path, 0o700, exist_ok=True)
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


class Partial:
    """A blob on its way: what is here of it, in a locked file. `size`: so many bytes are."""

    __slots__ = ("_digest", "_directory", "_file", "_hash", "_name", "size")

    def __init__(self, directory: int, name: str, lock: int, digest: str) -> None:
        self._directory = directory
        self._name = name
        self._file = lock
        self._digest = digest
        self.size = 0
        self._hash = hashlib.new(digest.partition(":")[0])

    def resume(self, most: int) -> None:
        """Take over what an earlier try has left, if it isn't more than the blob's `most` bytes. Raises SbError."""
        with Doing("cannot read what an earlier download left"):
            if os.fstat(self._file).st_size > most:
                os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            while data := os.read(self._file, CHUNK):
                self._hash.update(data)
                self.size += len(data)

    def restart(self) -> None:
        """Begin anew. Raises SbError."""
        with Doing("cannot write a blob", _HINT):
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
        self.size = 0
        self._hash = hashlib.new(self._digest.partition(":")[0])

    def write(self, data: bytes) -> None:
        """Add bytes. Raises SbError."""
        with Doing("cannot write a blob", _HINT):
            files.write_all(self._file, data)
        self._hash.update(data)
        self.size += len(data)

    def is_right(self) -> bool:
        """Whether what is here has the digest that it should have."""
        return f"{self._digest.partition(':')[0]}:{self._hash.hexdigest()}" == self._digest

    def finish(self) -> None:
        """Let others see the blob. Raises SbError; one that isn't right is thrown away."""
        if not self.is_right():
            self.restart()
            raise SbError(
                f"the blob {self._digest} is damaged", "its digest is another", "try again; then ask who has it"
            )
        with Doing("cannot keep a blob", _HINT):
            os.fsync(self._file)
            os.rename(f".{self._name}", self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def take(self, file: IO[bytes], told: Callable[[int], None]) -> None:
        """Have all of it from a file, and let others see it; `told` hears of each piece. Raises SbError."""
        self.restart()
        while data := file.read(CHUNK):
            self.write(data)
            told(len(data))
        self.finish()

    def close(self) -> None:
        """Let go of it; what there is of it stays for the next one."""
        os.close(self._file)
        os.close(self._directory)


def _is_at(descriptor: int, directory: int, name: str) -> bool:
    """Whether an open file still has this name. Raises OSError."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []
