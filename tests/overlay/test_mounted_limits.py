"""Through a real mount: many entries, long names, large and sparse files, and what pyfuse3 can't carry."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from fuse_overlay.kernel.shortcut import VARIABLE
from tests.overlay.ways import python

if TYPE_CHECKING:
    import pytest

    from tests.conftest import Count
    from tests.overlay.conftest import Mounted

GIB = 1 << 30
MIB = 1 << 20


def test_a_huge_directory_is_listed_while_it_changes(mounted: Mounted, count: Count) -> None:
    """What stays is listed once, and nothing twice, while a process makes, removes and renames entries beside it."""
    total = count(10_000, 100_000)
    for number in range(total):
        (mounted.lower / f"stays {number}").touch()
        if number % 10 == 0:
            (mounted.lower / f"goes {number}").touch()
    mounted.run(
        python(
            f"""
import os
total = {total}
started, done = os.pipe(), os.pipe()
if os.fork() == 0:
    os.read(started[0], 1)
    for number in range(0, total, 10):
        os.unlink(f"goes {{number}}")
        os.rename(f"stays {{number}}", f"stays {{number}} elsewhere") if number % 1000 == 500 else None
        os.close(os.open(f"comes {{number}}", os.O_CREAT | os.O_WRONLY))
    os.write(done[1], b"1")
    os._exit(0)
for turn in range(3):
    names = []
    with os.scandir(".") as entries:
        for position, entry in enumerate(entries):
            names.append(entry.name)
            assert entry.inode() > 0
            if (turn, position) == (0, 100):
                os.write(started[1], b"1")
            if (turn, position) == (1, 100):
                os.read(done[0], 1)
    assert len(names) == len(set(names))
    kept = [number for number in range(total) if number % 1000 != 500]
    assert set(names) >= {{f"stays {{number}}" for number in kept}}
os.wait()
assert len(names) == total + total // 10, len(names)
"""
        )
    )


def test_names_of_255_bytes_are_changed_like_any_other(mounted: Mounted) -> None:
    """They are copied up, renamed, replaced and removed, files as directories."""
    for letter in "abc":
        (mounted.lower / (letter * 255)).write_text(letter)
    (mounted.lower / ("d" * 255)).mkdir()
    (mounted.lower / ("d" * 255) / ("e" * 255)).touch()
    mounted.run(
        python(
            """
import os
a, b, c, d, e, f = (letter * 255 for letter in "abcdef")
with open(a, "a") as file:
    file.write("x")
os.unlink(b)
os.rename(c, f)
os.rename(d, c)
os.unlink(f"{c}/{e}")
os.rmdir(c)
assert sorted(os.listdir(".")) == [a, f]
assert (open(a).read(), open(f).read()) == ("ax", "c")
os.rename(f, a)
assert os.listdir(".") == [a]
"""
        )
    )


# To the bottom of a tree whose path is longer than PATH_MAX, with more directories than Python recurses into.
DESCEND = """
import os
DEPTH, NAME = 1200, "abcdef"
def descend(top):
    os.chdir(top)
    for _ in range(DEPTH - 1):
        os.chdir(NAME)
"""


def test_deeper_than_any_path(mounted: Mounted) -> None:
    """A file far below is changed, moved with all directories above it, found by the next mount and removed."""
    make = DESCEND + "for _ in range(DEPTH):\n    os.mkdir(NAME); os.chdir(NAME)\nopen('f', 'w').close()"
    change = """
top = os.open(".", os.O_RDONLY)
descend(NAME)
with open("f", "a") as file:
    file.write("changed")
os.chown("f", 5, 6)
os.link("f", "g")
os.fchdir(top)
os.rename(NAME, "moved")
"""
    look = """
descend("moved")
st = os.stat("g")
assert (open("f").read(), st.st_uid, st.st_gid, st.st_nlink) == ("changed", 5, 6, 2)
"""
    try:
        subprocess.run([sys.executable, "-c", make], cwd=mounted.lower, check=True)
        left = mounted.run_with_ids(python(DESCEND + change), python(DESCEND + look) + "rm -rf moved; ls -A")
        assert "" == left
    finally:
        subprocess.run(["rm", "-rf", mounted.lower, mounted.upper], check=True)  # shutil.rmtree recurses


def test_large_and_sparse_files_stay_sparse_through_copy_up(mounted: Mounted) -> None:
    """Of 5 GiB with data at both ends, and of a hole of 16 MiB, the copy takes the data only, and reads the same."""
    for name, size in (("large", 5 * GIB), ("hole", 16 * MIB)):
        with (mounted.lower / name).open("wb") as file:
            file.write(b"first")
            file.seek(size)
            file.write(b"last")
    mounted.run(
        python(
            f"""
for name, size in (("large", {5 * GIB}), ("hole", {16 * MIB})):
    with open(name, "r+b") as file:
        file.seek(size - 1)
        assert file.read() == b"\\0last"
        file.seek(size // 2)
        file.write(b"middle")
        file.seek(size // 2 - 2)
        assert file.read(10) == b"\\0\\0middle\\0\\0"
        file.seek(0)
        assert file.read(6) == b"first\\0"
        file.seek(0, 2)
        assert file.tell() == size + 4
"""
        )
    )
    for name, size in (("large", 5 * GIB), ("hole", 16 * MIB)):
        copy = (mounted.upper / name).stat()
        assert size + 4 == copy.st_size
        assert copy.st_blocks * 512 < MIB


def test_churn_by_several_processes_leaves_nothing_behind(mounted: Mounted, count: Count) -> None:
    """After files and directories were made, linked, renamed and removed at once, rm -rf removes it all at one go."""
    for number in range(200):
        (mounted.lower / f"d{number % 20}").mkdir(exist_ok=True)
        (mounted.lower / f"d{number % 20}" / f"f{number}").write_text("x")
    rounds = count(60, 1000)
    mounted.run(
        python(
            f"""
import contextlib, os, random
workers = []
for worker in range(4):
    workers.append(os.fork())
    if workers[-1] == 0:
        chance = random.Random(worker)
        def path():
            return f"d{{chance.randrange(20)}}/" + chance.choice(("f", "g", "h")) + str(chance.randrange(50))
        for _ in range({rounds}):
            for call, arguments in (
                (os.rename, (path(), path())), (os.link, (path(), path())), (os.mkdir, (path(),)),
                (os.unlink, (path(),)),
                (os.rename, (f"d{{chance.randrange(20)}}", path())), (os.rmdir, (path(),)), (os.symlink, ("x", path())),
                (os.mknod, (path(),)), (os.mkdir, (f"d{{chance.randrange(20)}}",)),
            ):
                with contextlib.suppress(OSError):
                    call(*arguments)
        os._exit(0)
for worker in workers:
    assert os.waitpid(worker, 0)[1] == 0
"""
        )
        + 'rm -rf -- *; test -z "$(ls -A)"'
    )


def test_nothing_inside_can_make_a_whiteout(mounted: Mounted) -> None:
    """A device node 0:0, which is one in a layer, is refused, and the directory keeps what it has; elsewhere the same
    user can make one."""
    (mounted.lower / "d").mkdir()
    (mounted.lower / "d" / "f").touch()
    output = mounted.run(
        f"mknod {mounted.base}/elsewhere c 0 0; for name in d/new new; do mknod $name c 0 0 2>&1 || true; done; ls . d"
    )
    assert 2 == output.count("Operation not permitted")
    assert output.endswith(".:\nd\n\nd:\nf\n")


def test_a_change_through_a_symbolic_link_reaches_all_hard_links(mounted: Mounted) -> None:
    """chmod, chown and a write by a link's name concern the one file that has two other names."""
    (mounted.lower / "one").write_text("old\n")
    os.link(mounted.lower / "one", mounted.lower / "two")
    (mounted.lower / "link").symlink_to("one")
    output = mounted.run(
        "chmod 600 link; echo new >>link; stat -c '%a %h %s' one two; stat -c %i one two | uniq | wc -l"
    )
    assert "600 2 8\n600 2 8\n1\n" == output


def test_private_mappings_stay_private(mounted: Mounted) -> None:
    """What a program writes to a private mapping, of a lower file or a copy, is seen by nobody else."""
    (mounted.lower / "f").write_bytes(b"a" * 8192)
    mounted.run(
        python(
            """
import mmap, os
for copied in (False, True):
    fd = os.open("f", os.O_RDONLY)
    area = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    area[0:1] = b"p"
    assert os.pread(fd, 1, 0) == b"a"
    os.truncate("f", 8192)
    os.utime("f")
    assert area[0:2] == b"pa"
    assert os.pread(fd, 1, 0) == b"a"
"""
        )
    )


def test_what_pyfuse3_cannot_carry(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an application sees where a request doesn't come through: errors that programs know how to go on from."""
    monkeypatch.setenv(VARIABLE, "off")
    (mounted.lower / "f").write_bytes(b"data")
    os.truncate(mounted.lower / "f", MIB)
    mounted.run(
        python(
            """
import ctypes, errno, fcntl, os, tempfile
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
def number(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return 0

# O_TMPFILE: EOPNOTSUPP, and what falls back to a name works.
assert number(os.open, ".", os.O_TMPFILE | os.O_RDWR, 0o600) == errno.EOPNOTSUPP
with tempfile.TemporaryFile(dir=".") as file:
    file.write(b"x")
assert os.listdir(".") == ["f"]

fd = os.open("f", os.O_RDWR)
# fallocate: EOPNOTSUPP, with all of its modes; posix_fallocate goes on without it and the file has its size.
for mode in (0, 1, 3, 0x10):
    assert libc.fallocate(fd, mode, 0, 4096) == -1
    assert ctypes.get_errno() == errno.EOPNOTSUPP, (mode, ctypes.get_errno())
os.posix_fallocate(fd, 0, 2 << 20)
assert os.fstat(fd).st_size == 2 << 20
assert os.pread(fd, 5, 0) == b"data\\0"
# Holes: all of a file seems to be data.
assert os.lseek(fd, 1 << 19, os.SEEK_DATA) == 1 << 19
assert os.lseek(fd, 0, os.SEEK_HOLE) == 2 << 20
assert number(os.lseek, fd, 3 << 20, os.SEEK_DATA) == errno.ENXIO
# ioctl: ENOTTY for flags (FS_IOC_GETFLAGS), EOPNOTSUPP for clones (FICLONE), which the kernel answers by itself.
assert number(fcntl.ioctl, fd, 0x80086601, bytearray(8)) == errno.ENOTTY
other = os.open("g", os.O_RDWR | os.O_CREAT)
assert number(fcntl.ioctl, other, 0x40049409, fd) == errno.EOPNOTSUPP
# copy_file_range: the kernel copies itself.
assert os.copy_file_range(fd, other, 4, 0, 0) == 4
assert os.pread(other, 10, 0) == b"data"
"""
        )
    )
