"""File system calls as data, so that the same ones can be done in two places and their outcomes compared.

An act is a tuple: its name, and what the method of that name below takes. It ends with a value, or with an errno as a
negative number. Open files are named by slots, small numbers.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from fuse_overlay.kernel import paths
from tests.overlay.conftest import plant_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Act: TypeAlias = "tuple[Any, ...]"

# Times before this were set by somebody.
_SET = 1_000_000_000 * 10**9


class Facts(NamedTuple):
    """What is seen of a file: its times, its inode number, and what must be equal in two places."""

    mtime: int
    ctime: int
    ino: int
    same: tuple[Any, ...]


Picture: TypeAlias = "dict[str, Facts]"


def do(place: object, act: Act) -> object:
    """Do an act by the method of its name. Returns what it ends with."""
    name, *arguments = act
    try:
        return getattr(place, name)(*arguments)
    except OSError as error:
        return -(error.errno or 0)


class Acts:
    """Acts on the files below a directory, by system calls. Symbolic links are not followed at a path's end.

    `lists_whiteouts`: in directories of one layer the kernel's overlayfs lists them, though nothing is at the names.
    """

    def __init__(self, top: str, *, lists_whiteouts: bool = False) -> None:
        self.top = top
        self.lists_whiteouts = lists_whiteouts
        self.slots: dict[int, int] = {}

    def do(self, act: Act) -> object:
        """Do one act. Returns what it ends with."""
        return do(self, act)

    def close_all(self) -> None:
        """Close all slots."""
        for slot in list(self.slots):
            self.close(slot)

    def path(self, path: str) -> str:
        """The real path."""
        return f"{self.top}/{path}"

    def write(self, path: str, flags: int, offset: int, data: bytes) -> None:
        """Open (perhaps make), write and close."""
        fd = os.open(self.path(path), os.O_WRONLY | os.O_NOFOLLOW | flags, 0o644)
        try:
            os.lseek(fd, offset, os.SEEK_SET)
            os.write(fd, data)
        finally:
            os.close(fd)

    def truncate(self, path: str, size: int) -> None:
        """truncate(2)."""
        os.truncate(self.path(path), size)

    def mkdir(self, path: str, mode: int) -> None:
        """mkdir(2)."""
        os.mkdir(self.path(path), mode)

    def symlink(self, path: str) -> None:
        """symlink(2), to nothing."""
        os.symlink("nowhere", self.path(path))

    def mknod(self, path: str, kind: int) -> None:
        """Make a FIFO, a socket or an empty file."""
        os.mknod(self.path(path), kind | 0o644)

    def link(self, old: str, new: str) -> None:
        """link(2)."""
        os.link(self.path(old), self.path(new), follow_symlinks=False)

    def unlink(self, path: str) -> None:
        """unlink(2)."""
        os.unlink(self.path(path))

    def rmdir(self, path: str) -> None:
        """rmdir(2)."""
        os.rmdir(self.path(path))

    def rename(self, old: str, new: str, flags: int) -> None:
        """renameat2(2)."""
        top = os.open(self.top, os.O_PATH | os.O_DIRECTORY)
        try:
            paths.rename(top, os.fsencode(old), top, os.fsencode(new), flags)
        finally:
            os.close(top)

    def chmod(self, path: str, mode: int) -> None:
        """chmod(2)."""
        os.chmod(self.path(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        """lchown(2); 0 stands for our own ids."""
        own_uid, own_gid = uid or os.geteuid(), gid or os.getegid()
        os.chown(self.path(path), own_uid, own_gid, follow_symlinks=False)

    def utimens(self, path: str, atime: int, mtime: int) -> None:
        """utimensat(2), in ns."""
        os.utime(self.path(path), ns=(atime, mtime), follow_symlinks=False)

    def setxattr(self, path: str, name: str, value: bytes, flags: int) -> None:
        """lsetxattr(2)."""
        os.setxattr(self.path(path), name, value, flags, follow_symlinks=False)

    def removexattr(self, path: str, name: str) -> None:
        """lremovexattr(2)."""
        os.removexattr(self.path(path), name, follow_symlinks=False)

    def open(self, slot: int, path: str, flags: int) -> None:
        """Open a file that is there, into a slot."""
        if slot in self.slots:
            self.close(slot)
        self.slots[slot] = os.open(self.path(path), flags | os.O_NOFOLLOW)

    def close(self, slot: int) -> None:
        """Close a slot."""
        if slot in self.slots:
            os.close(self.slots.pop(slot))

    def pwrite(self, slot: int, offset: int, data: bytes) -> int:
        """pwrite(2)."""
        return os.pwrite(self.slots[slot], data, offset) if slot in self.slots else 0

    def ftruncate(self, slot: int, size: int) -> None:
        """ftruncate(2)."""
        if slot in self.slots:
            os.ftruncate(self.slots[slot], size)

    def fchmod(self, slot: int, mode: int) -> None:
        """fchmod(2)."""
        if slot in self.slots:
            os.fchmod(self.slots[slot], mode)

    def seen_by(self, slot: int) -> object:
        """What is seen of an open file, whether it has a name or not."""
        if slot not in self.slots:
            return None
        st = os.fstat(self.slots[slot])
        return st.st_size, st.st_nlink, stat.S_IMODE(st.st_mode), self.content(slot)

    def content(self, slot: int) -> bytes | None:
        """What can be read from a slot; None if it is for writing only."""
        try:
            return os.pread(self.slots[slot], 1 << 20, 0)
        except OSError:
            return None

    def picture(self) -> Picture:
        """All that is below the directory, by path."""
        return dict(self._look(""))

    def _look(self, above: str) -> Iterator[tuple[str, Facts]]:
        with os.scandir(self.path(above)) as entries:
            listed = [(entry.name, entry.inode()) for entry in entries]
        for name, number in listed:
            path = f"{above}/{name}".lstrip("/")
            real = self.path(path)
            if self.lists_whiteouts and not os.path.lexists(real):
                continue
            st = os.lstat(real)
            assert number == st.st_ino, path
            listed_xattrs = os.listxattr(real, follow_symlinks=False)
            users = [name for name in listed_xattrs if name.startswith("user.")]
            xattrs = {name: os.getxattr(real, name, follow_symlinks=False) for name in users}
            content = b""
            if stat.S_ISREG(st.st_mode):
                with open(real, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(st.st_mode):
                content = os.fsencode(os.readlink(real))
            ids = (0 if st.st_uid == os.geteuid() else st.st_uid, 0 if st.st_gid == os.getegid() else st.st_gid)
            yield path, facts(st, stat.S_IMODE(st.st_mode), ids, st.st_nlink, st.st_ino, content, xattrs)
            if stat.S_ISDIR(st.st_mode):
                yield from self._look(path)


def facts(
    st: os.stat_result, mode: int, ids: tuple[int, int], nlink: int, ino: int, content: bytes, xattrs: dict[str, bytes]
) -> Facts:
    """What is seen of a file. Of directories neither size nor link count: file systems differ in those."""
    kind = stat.S_IFMT(st.st_mode)
    count = 0 if kind == stat.S_IFDIR else nlink
    time = st.st_mtime_ns if st.st_mtime_ns < _SET else 0
    same = (kind, mode, ids, count, time, content, tuple(sorted(xattrs.items())))
    return Facts(st.st_mtime_ns, st.st_ctime_ns, ino, same)


def differences(before: tuple[Picture, Picture], after: tuple[Picture, Picture], touched: tuple[str, ...]) -> list[str]:
    """What two places don't agree in, or didn't do alike since an earlier look at both; `touched`: by an act on these.

    The first one is right: a ctime may move in the second that didn't in the first (a copy-up moves it).
    """
    one, other = after
    found = [f"only in one: {path}" for path in sorted(one.keys() ^ other.keys())]
    found += [
        f"{path}: {one[path].same} is {other[path].same}"
        for path in sorted(one.keys() & other.keys())
        if one[path].same != other[path].same
    ]
    if found:
        return found
    kept = [path for path in one if path in before[0] and before[0][path].same[0] == one[path].same[0]]
    for path in kept:
        moved = [later[path].mtime != earlier[path].mtime for earlier, later in zip(before, after, strict=True)]
        if moved[0] != moved[1]:
            found.append(f"{path}: mtime moved: {moved}")
        if path in touched and one[path].ctime != before[0][path].ctime and other[path].ctime == before[1][path].ctime:
            found.append(f"{path}: ctime has not moved")
        renumbered = [later[path].ino != earlier[path].ino for earlier, later in zip(before, after, strict=True)]
        if renumbered[0] != renumbered[1]:
            found.append(f"{path}: another inode number: {renumbered}")
    return found + [f"one file: {group}" for group in _groups(one) ^ _groups(other)]


def _groups(picture: Picture) -> set[frozenset[str]]:
    """The paths that share an inode number."""
    groups: dict[int, set[str]] = {}
    for path, seen in picture.items():
        groups.setdefault(seen.ino, set()).add(path)
    return {frozenset(group) for group in groups.values()}


def let_time_pass(scratch: str) -> None:
    """Return when what changes now gets another time than what has changed before."""
    os.close(os.open(scratch, os.O_CREAT | os.O_WRONLY))
    os.utime(scratch)  # no earlier than whatever has changed by now
    before = os.stat(scratch).st_mtime_ns
    while os.stat(scratch).st_mtime_ns == before:
        os.utime(scratch)


def plant_layer(top: Path, tree: dict[str, Any], links: list[tuple[str, str]]) -> None:
    """Make a layer. `links`: pairs of names that are to be one file, where the first is a file and the second is free.
    """
    plant_tree(top, tree)
    for old, new in links:
        with contextlib.suppress(OSError):
            if stat.S_ISREG((top / old).lstat().st_mode):
                os.link(top / old, top / new)


def copy_out(picture: Picture, target: str) -> None:
    """Make a plain directory of what was seen elsewhere, with its hard links and times.

    A name that a file has there out of sight, it has here beside the directory.
    """
    os.mkdir(target)
    os.mkdir(f"{target}.elsewhere")
    made: dict[int, str] = {}
    unseen: list[str] = []
    for path, seen in sorted(picture.items()):
        real = f"{target}/{path}"
        kind, mode, _, count, _, content, xattrs = seen.same
        if kind != stat.S_IFDIR and seen.ino in made:
            os.link(made[seen.ino], real, follow_symlinks=False)
            continue
        unseen.extend([real] * (count - sum(other.ino == seen.ino for other in picture.values())))
        made[seen.ino] = real
        if kind == stat.S_IFDIR:
            os.mkdir(real)
        elif kind == stat.S_IFLNK:
            os.symlink(content, os.fsencode(real))
        else:
            with open(real, "wb") as file:
                file.write(content)
        for name, value in xattrs:
            os.setxattr(real, name, value)
        if kind != stat.S_IFLNK:
            os.chmod(real, mode)
    for number, real in enumerate(unseen):
        os.link(real, f"{target}.elsewhere/{number}", follow_symlinks=False)
    for path, seen in sorted(picture.items(), reverse=True):
        os.utime(f"{target}/{path}", ns=(seen.mtime, seen.mtime), follow_symlinks=False)
