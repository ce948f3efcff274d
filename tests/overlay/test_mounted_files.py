"""Open files, caches and descriptors through a real mount."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.overlay.conftest import Mounted, Plant

# The kernel may show a live file's old state for one second; a busy machine takes longer to get round to it.
PATIENCE = 10

# Opens files until its own limit, of new ones and of lower ones, and uses all of them. Its arguments: its number among
# those that run at once, and the work directory.
MANY_FILES = """
import errno, glob, os, resource, stat, sys
who, work = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))
def walk():
    for path in glob.glob(f"{who}/*/e/f"):
        os.listdir(os.path.dirname(path)); os.chmod(path, 0o600)
        os.rename(path, path + "2"); os.rename(path + "2", path)
held = {}
try:
    while True:
        number = len(held)
        path = f"{who}/{number}/e/f" if number < 100 else f"{who}/new{number % 200}"
        flags = os.O_RDONLY if number % 3 == 0 and number < 100 else os.O_RDWR | os.O_CREAT
        held[os.open(path, flags)] = (path, flags)
except OSError as error:
    assert error.errno == errno.EMFILE, error
assert len(held) > 390
for fd in (0, 1):
    os.close(fd)
def use(round):
    for fd, (path, flags) in held.items():
        if flags:
            assert os.pwrite(fd, b"%06d" % (fd + round), 8 * fd) == 6
    for fd in {path: fd for fd, (path, flags) in held.items() if flags}.values():
        os.fsync(fd)
    for fd, (path, flags) in held.items():
        if flags:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            assert os.pread(fd, 6, 8 * fd) == b"%06d" % (fd + round), path
        elif fd % 2:
            assert os.pread(fd, 1, 0) == b"x", path
use(0)
walk()
for number, path in enumerate(sorted({path for path, _ in held.values()})):
    if number % 2:
        os.unlink(path)
    else:
        with open(f"{who}/over", "w"):
            os.rename(f"{who}/over", path)
            os.unlink(path)
assert any(name.startswith("#fuse-overlay-") for name in os.listdir(work)), "enough descriptors for all"
use(1000)
for fd, (path, flags) in held.items():
    assert os.fstat(fd).st_nlink == 0, path
    os.fchmod(fd, 0o4640)
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o4640, path
    assert os.read(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY), 1) in (b"x", b"\\0", b"0"), path
    os.close(0)
    if flags:
        os.ftruncate(fd, 3)
        assert os.fstat(fd).st_size == 3, path
for fd in held:
    os.close(fd)
os.rmdir(f"{who}/1/e")
open(f"{who}/new", "w").close()
"""


@pytest.mark.parametrize("helper", ["on", "off"])
def test_the_servers_descriptors_are_not_the_clients(mounted: Mounted, plant: Plant, helper: str) -> None:
    """Clients of a server of few descriptors open files up to their own limit, two at once, and use them all.

    Whether the files lose their names meanwhile or not; and nothing of them is left.
    """
    for client in ("a", "b"):
        plant(mounted.lower / client, {str(number): {"e": {"f": b"x"}} for number in range(100)})
    (mounted.base / "many.py").write_text(MANY_FILES)
    many = f"python3 {mounted.base}/many.py"
    mounted.server(
        f"""{many} a {mounted.work} & {many} b {mounted.work}; wait $!
        for _ in $(seq 600); do ls {mounted.work} | grep -q '#fuse-overlay-' || exit 0; sleep 0.05; done; exit 1""",
        f"env FUSE_OVERLAY_SHORTCUT={helper} prlimit --nofile=256:256",
    )


def test_buffered_and_direct_io_agree(mounted: Mounted) -> None:
    """What one descriptor writes past the cache, another reads through it, and the other way round."""
    (mounted.lower / "f").write_bytes(b"a" * 8192)
    mounted.run(
        """python3 - <<'END'
import mmap, os
buffered = os.open("f", os.O_RDWR)
assert os.pread(buffered, 1, 0) == b"a"
direct = os.open("f", os.O_RDWR | os.O_DIRECT)
area = mmap.mmap(-1, 4096)
for letter in b"bcd":
    area[:] = bytes([letter]) * 4096
    os.pwritev(direct, [area], 0)
    assert os.pread(buffered, 2, 0) == bytes([letter]) * 2
    os.pwrite(buffered, bytes([letter + 32]), 1)
    os.preadv(direct, [area], 0)
    assert area[:3] == bytes([letter, letter + 32, letter]), area[:3]
END"""
    )


def test_an_open_file_without_a_name(mounted: Mounted) -> None:
    """Its link count is 0; its owner, mode, times and size can be changed, from below as from above."""
    (mounted.lower / "below").write_bytes(b"below")
    mounted.run_with_ids(
        """
        echo above >above
        python3 - <<'END'
import os
for name in ("below", "above"):
    fd = os.open(name, os.O_RDONLY)
    before = os.fstat(fd)
    os.unlink(name)
    os.fchown(fd, 5, 6)
    os.fchmod(fd, 0o4711)
    os.utime(fd, ns=(1, 2))
    st = os.fstat(fd)
    assert (st.st_nlink, st.st_uid, st.st_gid, st.st_mode & 0o7777) == (0, 5, 6, 0o4711), st
    assert (st.st_mtime_ns, st.st_ino, st.st_size) == (2, before.st_ino, before.st_size), st
    assert os.pread(fd, 5, 0) == name.encode()
    writer = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    os.ftruncate(writer, 3)
    os.pwrite(writer, b"N", 0)
    assert os.pread(fd, 9, 0) == b"N" + name.encode()[1:3]
END
        """
    )
    assert [] == os.listdir(mounted.work)


def test_a_mapping_sees_what_is_written_later(mounted: Mounted) -> None:
    """A read-only shared mapping of a lower file, made before the copy-up, shows what others write."""
    (mounted.lower / "f").write_bytes(b"a" * 4096)
    mounted.run(
        """python3 - <<'END'
import mmap, os
reader = os.open("f", os.O_RDONLY)
seen = mmap.mmap(reader, 4096, prot=mmap.PROT_READ)
assert seen[:1] == b"a"
writer = os.open("f", os.O_WRONLY)
os.pwrite(writer, b"b", 0)
assert seen[:1] == b"b"
os.fsync(writer)
os.posix_fadvise(reader, 0, 0, os.POSIX_FADV_DONTNEED)
assert (seen[:1], os.pread(reader, 1, 0)) == (b"b", b"b")
END"""
    )


def test_reading_leaves_the_lower_layers_access_times(mounted: Mounted, plant: Plant) -> None:
    """Neither files nor directories of the user's own get a new st_atime from being read and listed."""
    plant(mounted.lower, {"d": {"f": b"content"}})
    paths = [mounted.lower, mounted.lower / "d", mounted.lower / "d" / "f"]
    for path in paths:
        os.utime(path, ns=(1, 10**18))  # older than st_mtime: even relatime would renew it
    mounted.run("cat d/f; ls -lR; find .")
    assert [1, 1, 1] == [path.stat().st_atime_ns for path in paths]


def test_the_size_of_the_file_system_is_the_uppers(mounted: Mounted) -> None:
    """statfs(2) gives the blocks and the free space that new files land in."""
    real = os.statvfs(mounted.upper)
    blocks, size = mounted.run("stat -f -c '%b %S' .").split()
    assert (real.f_blocks, real.f_frsize) == (int(blocks), int(size))


def test_fsync_reaches_the_disk(mounted: Mounted) -> None:
    """fsync, fdatasync and fsync of a directory inside are the same calls on the real files."""
    log = mounted.base / "calls"
    mounted.server(
        """python3 - <<'END'
import os
fd = os.open("f", os.O_RDWR | os.O_CREAT)
os.write(fd, b"x")
os.fsync(fd)
os.write(fd, b"y")
os.fdatasync(fd)
os.fsync(os.open(".", os.O_RDONLY))
END""",
        f"strace -f -y -e trace=fsync,fdatasync -o {log}",
    )
    calls = re.findall(r"(fsync|fdatasync)\(\d+<([^>]*)>\)\s+= 0", log.read_text())
    upper = str(mounted.upper)
    assert [("fsync", f"{upper}/f"), ("fdatasync", f"{upper}/f"), ("fsync", upper)] == calls


def test_layers_on_two_file_systems(mounted: Mounted) -> None:
    """Files of equal st_ino on two file systems have two numbers, which a second mount shows again."""
    base = mounted.base
    show = "stat -c %i one two; test $(stat -c %d one) = $(stat -c %d two); ls -i | awk '{print $1}'"
    first = mounted.run_with_ids(
        show,
        show,
        before=f"mount -t tmpfs none {mounted.lower}; touch {mounted.lower}/one; mkdir {base}/other; "
        f"mount -t tmpfs none {base}/other; touch {base}/other/two; "
        f"test $(stat -c %i {mounted.lower}/one) = $(stat -c %i {base}/other/two); touch {mounted.lower}/two; "
        f"mount --bind {base}/other/two {mounted.lower}/two",
    ).split()
    assert (first[:2], first[:4]) == (first[2:4], first[4:])
    assert 2 == len(set(first))


def test_a_replaced_link_of_the_host_is_seen(mounted: Mounted) -> None:
    """The kernel keeps the target of a live symbolic link, until there is another link in its place."""
    link = mounted.lower / "link"
    link.symlink_to("first")
    process = mounted.start("while read -r; do readlink link; done", live=True)
    assert process.stdin is not None
    assert process.stdout is not None
    seen: list[str] = []
    for target in ("first", "second", "third"):
        link.unlink()
        link.symlink_to(target)
        deadline = time.monotonic() + PATIENCE
        while seen[-1:] != [f"{target}\n"]:
            assert time.monotonic() < deadline, seen
            process.stdin.write("\n")
            process.stdin.flush()
            seen.append(process.stdout.readline())
            time.sleep(0.1)
    process.communicate(timeout=60)
    assert {"first\n", "second\n", "third\n"} == set(seen)
