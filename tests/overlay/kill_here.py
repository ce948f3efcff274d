"""Kills the server of an overlay again and again while programs work on it, mounts the layer anew and looks at it.

kill_here.py LOWER UPPER WORK MERGED ROUNDS SEED

As root of a user namespace. Prints what is wrong, and how many rounds were right. The programs are a writer of files
that each replace the one before (written, fsync, rename), sqlite, and git.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from typing import TYPE_CHECKING

from fuse_overlay import server
from fuse_overlay.cli import extents
from fuse_overlay.config import Config, Lower

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = 8
WORD = 8
LIBC = ctypes.CDLL(None, use_errno=True)
MNT_DETACH = 2
GIT = ("git", "-c", "core.fsync=all", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", "repository")


class Counters:
    """Numbers in memory that processes share: what each program knows to be done."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, count * WORD)

    def __getitem__(self, place: int) -> int:
        return int.from_bytes(self._memory[place * WORD : (place + 1) * WORD], "little")

    def __setitem__(self, place: int, value: int) -> None:
        self._memory[place * WORD : (place + 1) * WORD] = value.to_bytes(WORD, "little")


def payload(version: int, size: int) -> bytes:
    """A file's content that says which version it is, and whether it is whole."""
    body = f"{version}\n".encode() + random.Random(version).randbytes(size)
    return hashlib.sha256(body).digest() + body


def version_of(content: bytes) -> int:
    """Which version a content is. Raises ValueError if it isn't whole."""
    digest, body = content[:32], content[32:]
    if hashlib.sha256(body).digest() != digest:
        raise ValueError(f"{len(content)} bytes that are no whole version")
    return int(body.partition(b"\n")[0])


def write_files(done: Counters) -> None:
    """Replace files by newer versions, and move the directories around that they are in."""
    chance = random.Random()
    for version in range(max(done[number] for number in range(FILES)) + 1, 1 << 40):
        number = chance.randrange(FILES)
        fresh, target = f"files/new{number}", f"files/f{number}"
        with open(fresh, "wb") as file:
            file.write(payload(version, chance.randrange(200_000)))
            file.flush()
            os.fsync(file.fileno())
            os.rename(fresh, target)
            done[number] = version
            os.chmod(target, 0o600 + chance.randrange(0o100))
            os.chown(target, 0, 0)
            move_directories(target, version)  # the file is still open: close(2) would write what fsync(2) hadn't


def move_directories(target: str, version: int) -> None:
    """Give a file another name in a tree, move that and remove it."""
    os.makedirs("tree/a/b", exist_ok=True)
    os.link(target, f"tree/a/b/{version}")
    os.rename("tree", "moved")
    for below in ("a/b", "a", ""):
        for name in os.listdir(f"moved/{below}"):
            if os.path.isfile(f"moved/{below}/{name}"):
                os.unlink(f"moved/{below}/{name}")
        os.rmdir(f"moved/{below}")


def check_files(done: Counters) -> None:
    """Every file is whole, and none is older than its writer knew."""
    for number in range(FILES):
        with open(f"files/f{number}", "rb") as file:
            version = version_of(file.read())
        if version < done[number]:
            raise ValueError(f"f{number} has version {version} after {done[number]}")
        done[number] = version
    subprocess.run(["rm", "-rf", "tree", "moved"], check=True)
    if sorted(name for name in os.listdir("files") if name.startswith("f")) != [f"f{n}" for n in range(FILES)]:
        raise ValueError(f"files: {os.listdir('files')}")


def write_rows(done: Counters) -> None:
    """Commit transactions of ten rows."""
    base = sqlite3.connect("base", isolation_level=None)
    base.execute("pragma synchronous = full")
    while True:
        base.execute("begin")
        base.executemany("insert into t values (?)", [(os.urandom(500),)] * 10)
        base.execute("commit")
        done[FILES] += 10


def check_rows(done: Counters) -> None:
    """The database is sound and has whole transactions, all that were committed."""
    base = sqlite3.connect("base")
    rows = base.execute("select count(*) from t").fetchone()[0]
    found = base.execute("pragma integrity_check").fetchall()
    if found != [("ok",)] or rows % 10 or rows < done[FILES]:
        raise ValueError(f"{rows} rows, at least {done[FILES]} expected: {found}")
    done[FILES] = rows
    base.close()


def write_commits(_: Counters) -> None:
    """Commit to a repository."""
    while True:
        with open("repository/file", "ab") as file:
            file.write(b"line\n")
        subprocess.run([*GIT, "commit", "-qam", "x"], check=True, capture_output=True)


def check_commits(_: Counters) -> None:
    """The repository is sound; a lock of the git that was killed may be there."""
    for lock in ("index.lock", "HEAD.lock", "refs/heads/master.lock"):
        if os.path.exists(f"repository/.git/{lock}"):
            os.unlink(f"repository/.git/{lock}")
    found = subprocess.run([*GIT, "fsck", "--strict", "--no-dangling"], capture_output=True, text=True, check=False)
    if found.returncode:
        raise ValueError(f"git fsck: {found.stdout}{found.stderr}")


def forked(act: Callable[[], None]) -> int:
    """A process that does something, and exits with 0 if it succeeds."""
    pid = os.fork()
    if pid:
        return pid
    try:
        act()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


class Place:
    """The overlay's directories; mounts it."""

    def __init__(self, lower: str, upper: str, work: str, merged: str) -> None:
        self.merged = merged
        self._config = Config(
            (Lower(os.fsencode(lower), layer=True, live=False),),
            os.fsencode(upper),
            os.fsencode(work),
            uids=extents("/proc/self/uid_map"),
            gids=extents("/proc/self/gid_map"),
        )

    def mount(self) -> int:
        """Mount and serve; the server's pid is returned."""
        fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
        if LIBC.mount(b"fuse", os.fsencode(self.merged), b"fuse", 0, options.encode()) != 0:
            raise OSError(ctypes.get_errno(), "mount")
        pid = forked(lambda: server.serve(self._config, fuse))
        os.close(fuse)
        return pid

    def unmount(self) -> None:
        """Unmount, whoever still uses it."""
        if LIBC.umount2(os.fsencode(self.merged), MNT_DETACH) != 0:
            raise OSError(ctypes.get_errno(), "umount")

    def within(self, act: Callable[[Counters], None], done: Counters) -> int:
        """A process that works in the mount."""

        def work() -> None:
            os.chdir(self.merged)
            act(done)

        return forked(work)


def silent(act: Callable[[Counters], None]) -> Callable[[Counters], None]:
    """What fails as it should when its file system goes."""

    def work(done: Counters) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        act(done)

    return work


def one_round(place: Place, done: Counters, patience: float) -> bool:
    """Let the programs work until the server is killed, then look at what they find. Whether all is right."""
    served = place.mount()
    workers = [place.within(silent(act), done) for act in (write_files, write_rows, write_commits)]
    time.sleep(patience)
    os.kill(served, signal.SIGKILL)
    for pid in (served, *workers):
        os.waitpid(pid, 0)
    place.unmount()
    served = place.mount()
    checkers = [place.within(act, done) for act in (check_files, check_rows, check_commits)]
    statuses = [os.waitpid(pid, 0)[1] for pid in checkers]
    place.unmount()
    statuses.append(os.waitpid(served, 0)[1])
    return not any(statuses)


def main() -> int:
    """Returns the exit status."""
    *directories, rounds, seed = sys.argv[1:]
    place, done, chance = Place(*directories), Counters(FILES + 1), random.Random(int(seed))
    right = sum(one_round(place, done, chance.uniform(0.0, 0.4)) for _ in range(int(rounds)))
    print(f"{right} of {rounds} rounds were right, {max(done[n] for n in range(FILES))} versions, {done[FILES]} rows")
    return 0 if right == int(rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
