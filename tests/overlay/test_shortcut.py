"""What the compiled helper does by itself is what Python would have done; each test is run with it and without."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.overlay.ways import python

if TYPE_CHECKING:
    from tests.overlay.conftest import Mounted


def test_a_write_takes_setuid_away(mounted: Mounted, way: str) -> None:
    """A file that becomes setuid while it is open loses that with the next write to it, and keeps it without one."""
    program = """
import os, stat
def mode(name): return oct(stat.S_IMODE(os.stat(name).st_mode))
for name in ("written", "left"):
    file = os.open(name, os.O_RDWR | os.O_CREAT, 0o755)
    os.write(file, b"one")
    os.fsync(file)
    os.fchmod(file, 0o6755)
    if name == "written":
        os.write(file, b"two")
        os.fsync(file)
    os.close(file)
    print(mode(name))
"""
    assert "0o755\n0o6755\n" == mounted.run(python(program))


def test_a_read_only_descriptor_shows_what_is_written_after_a_copy_up(mounted: Mounted, way: str) -> None:
    """A descriptor of a lower file reads the copy's data, and the lower file stays as it was."""
    (mounted.lower / "f").write_bytes(b"before")
    program = """
import os
reader = os.open("f", os.O_RDONLY)
print(os.pread(reader, 10, 0))
writer = os.open("f", os.O_WRONLY)
os.pwrite(writer, b"after!!", 0)
os.fsync(writer)
os.posix_fadvise(reader, 0, 0, os.POSIX_FADV_DONTNEED)
print(os.pread(reader, 10, 0))
"""
    assert "b'before'\nb'after!!'\n" == mounted.run(python(program))
    assert b"before" == (mounted.lower / "f").read_bytes()


@pytest.mark.parametrize("size", [1, 4095, 32768, 131071, 131073, 1 << 20, (1 << 20) + 1])
def test_reads_of_all_sizes(mounted: Mounted, way: str, size: int) -> None:
    """What is read, through the cache and around it (O_DIRECT), is what is in the file, up to its end."""
    (mounted.lower / "f").write_bytes(os.urandom(size))
    real = mounted.lower / "f"
    mounted.run(f"cmp f {real}; dd if=f of=copy iflag=direct bs=128K status=none; cmp copy {real}")


def test_written_times_are_the_programs(mounted: Mounted, way: str) -> None:
    """A modification time that was set stays when data that was written before it reaches the file later."""
    mounted.run("echo line >f; touch -d @1000000 f; sync f; test $(stat -c %Y f) = 1000000")
    assert 1000000 == int((mounted.upper / "f").stat().st_mtime)


def test_preallocation(mounted: Mounted, way: str) -> None:
    """With the helper fallocate(2) gives a file its size; without it, that is an error."""
    assert ("0\n4096\n" if way == "helper" else "1\n0\n") == mounted.run(
        "touch f; fallocate -l 4096 f 2>/dev/null && echo 0 || echo 1; stat -c %s f"
    )


def test_copies_by_the_kernel(mounted: Mounted, way: str) -> None:
    """copy_file_range(2) copies between upper files, and from a lower one, whoever does it."""
    content = os.urandom(300_000)
    (mounted.lower / "f").write_bytes(content)
    program = """
import os
for source, target in (("f", "one"), ("one", "two")):
    with open(source, "rb") as reader, open(target, "wb") as writer:
        while os.copy_file_range(reader.fileno(), writer.fileno(), 1 << 20): pass
"""
    mounted.run(python(program))
    assert content == (mounted.upper / "two").read_bytes()


def test_two_listings_of_a_directory_that_shrinks(mounted: Mounted, way: str) -> None:
    """Who goes on listing after names were removed and another one has listed anew, gets every other name once."""
    for number in range(3000):
        (mounted.lower / f"a rather long name to fill the listing {number}").touch()
    program = """
import os
names = set(os.listdir("."))
with os.scandir(".") as entries:
    seen = [next(entries).name]
    removed = sorted(names)[::3]
    for name in removed: os.unlink(name)
    assert set(os.listdir(".")) == names - set(removed)
    open("new", "w").close()
    os.listdir(".")
    seen += [entry.name for entry in entries]
assert len(seen) == len(set(seen)), "listed twice"
assert names - set(removed) <= set(seen), "left out"
"""
    mounted.run(python(program))


def test_attributes_are_seen_when_there_are_some(mounted: Mounted, way: str) -> None:
    """An attribute that is set after it was found missing is found, and missing again when it is removed."""
    program = """
import errno, os
def value():
    try: return os.getxattr("f", "user.one")
    except OSError as error: return errno.errorcode[error.errno]
open("f", "w").close()
found = [value(), value()]
os.setxattr("f", "user.one", b"1")
found.append(value())
os.removexattr("f", "user.one")
print(*found, value())
"""
    assert "ENODATA ENODATA b'1' ENODATA\n" == mounted.run(python(program))


def test_handles_of_files_and_live_directories_are_told_apart(mounted: Mounted, way: str) -> None:
    """Files stay open and readable while directories of a live tree, in the same number, are opened and closed."""
    for number in range(100):
        (mounted.lower / f"f{number}").write_text(str(number))
    program = """
import os
files = [os.open(f"f{number}", os.O_RDONLY) for number in range(100)]
for _ in range(300): os.listdir(".")
for number, file in enumerate(files):
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.read(file, 10) == str(number).encode()
    os.close(file)
"""
    mounted.run(python(program), live=True)


def test_what_is_closed_counts_no_more(mounted: Mounted, way: str) -> None:
    """The space of a file without a name is free again for the request after its last close."""
    program = """
import os
other = os.open("other", os.O_RDWR | os.O_CREAT)
for _ in range(20):
    file = os.open("f", os.O_RDWR | os.O_CREAT)
    os.write(file, bytes(1 << 20))
    os.fsync(file)
    os.unlink("f")
    os.close(file)
    os.write(other, b"x" * 4096)
    os.fsync(other)
    os.ftruncate(other, 0)
"""
    mounted.run(python(program), options=(f"--bytes-max={1 << 20}",))


def test_attributes_of_what_is_open_or_was_changed(mounted: Mounted, way: str) -> None:
    """stat(2) tells what has become of a file or directory, whether it is open, closed again, linked or gone."""
    (mounted.lower / "d").mkdir()
    (mounted.lower / "d/f").write_bytes(b"text")
    program = """
import os
def told(place):
    st = os.fstat(place) if isinstance(place, int) else os.stat(place)
    print(oct(st.st_mode), st.st_nlink, st.st_size, st.st_mtime_ns)
file = os.open("d/f", os.O_RDWR)
os.utime(file, ns=(1, 2)); told(file)
os.fchmod(file, 0o640); os.utime(file, ns=(1, 3)); told("d/f")
os.ftruncate(file, 2); os.utime(file, ns=(1, 4)); told(file)
os.link("d/f", "d/g"); told(file); os.unlink("d/f"); told(file)
os.rename("d/g", "d/h"); told("d/h")
os.unlink("d/h"); told(file); os.utime(file, ns=(1, 5)); told(file); os.close(file)
os.mkdir("d/new"); os.utime("d", ns=(1, 6)); told("d"); os.chmod("d", 0o711); os.utime("d", ns=(1, 7)); told("d")
os.mkdir("e"); os.utime("e", ns=(1, 8)); told("e"); os.mkdir("e/below"); os.utime("e", ns=(1, 9)); told("e")
"""
    expected = [
        "0o100644 1 4 2", "0o100640 1 4 3", "0o100640 1 2 4", "0o100640 2 2 4", "0o100640 1 2 4", "0o100640 1 2 4",
        "0o100640 0 2 4", "0o100640 0 2 5", "0o40755 1 0 6", "0o40711 1 0 7", "0o40755 2 0 8", "0o40755 3 0 9",
    ]  # fmt: skip
    output = mounted.run("umask 022\n" + python(program))
    # What a directory's size is, is the real file system's own affair.
    assert expected == [re.sub(r"^(0o40\d* \d+) \d+", r"\1 0", line) for line in output.splitlines()]


def test_a_file_is_read_again_as_it_is_by_then(mounted: Mounted, way: str) -> None:
    """Who opens a file that was read before gets its data of now, whatever was done to it meanwhile."""
    for name in ("kept", "changed", "removed", "replaced", "moved"):
        (mounted.lower / name).write_bytes(b"old")
    program = """
import os
names = ("kept", "changed", "removed", "replaced", "moved")
def read(name):
    with open(name) as file: return file.read()
for _ in range(3): print([read(name) for name in names])
with open("changed", "a") as file: file.write(" new")
os.unlink("removed")
with open("removed", "w") as file: file.write("another")
with open("other", "w") as file: file.write("other")
os.rename("other", "replaced"); os.rename("moved", "there"); os.mkdir("moved")
for _ in range(3): print([read(name) for name in (*names[:-1], "there")])
"""
    before, after = "['old', 'old', 'old', 'old', 'old']\n", "['old', 'old new', 'another', 'other', 'old']\n"
    assert before * 3 + after * 3 == mounted.run(python(program))


@pytest.mark.parametrize("live", [False, True])
def test_a_file_is_first_opened_as_it_is_by_then(mounted: Mounted, way: str, live: bool) -> None:
    """Who opens a file that was only looked at before gets its data of now, whatever was done to it."""
    long = "l" * 200
    before = ("kept", "changed", "removed", "replaced", "moved", "linked", "truncated", long)
    for name in before:
        for directory in ("d", "e"):
            (mounted.lower / directory).mkdir(exist_ok=True)
            (mounted.lower / directory / name).write_bytes(b"old")
    program = f"""
import os
def read(name):
    with open(name) as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # else the kernel knows, whatever was opened
        return file.read()
for directory in ("d", "e"):
    os.chdir(directory)
    for name in {before}: os.stat(name)
    with open("changed", "a") as file: file.write(" new")
    os.unlink("removed")
    with open("removed", "w") as file: file.write("another")
    with open("other", "w") as file: file.write("other")
    os.rename("other", "replaced"); os.rename("moved", "there"); os.mkdir("moved")
    os.link("linked", "link"); os.truncate("truncated", 1)
    os.chdir("..")
    if directory == "e": os.rename("e", "renamed"); directory = "renamed"
    names = ("kept", "changed", "removed", "replaced", "there", "linked", "link", "truncated", "{long}")
    print([read(directory + "/" + name) for name in names])
"""
    each = "['old', 'old new', 'another', 'other', 'old', 'old', 'old', 'o', 'old']\n"
    assert each * 2 == mounted.run(python(program), live=live)


def test_what_the_helper_opens_is_moved_to_the_copy(mounted: Mounted, way: str) -> None:
    """A file that was opened after a look-up alone, and is written by somebody else then, shows what was written."""
    for number in range(20):
        (mounted.lower / f"f{number}").write_bytes(b"before")
    program = """
import os
for number in range(20):
    reader = os.open(f"f{number}", os.O_RDONLY)
    with open(f"f{number}", "r+b") as writer: writer.write(b"after!")
    os.posix_fadvise(reader, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(reader, 10, 0) == b"after!"
    os.unlink(f"f{number}")
    assert os.pread(reader, 10, 0) == b"after!" and os.fstat(reader).st_nlink == 0
"""
    mounted.run(python(program))
    assert b"before" == (mounted.lower / "f0").read_bytes()


def test_directories_that_were_closed_open_no_files(mounted: Mounted, way: str) -> None:
    """Each file is opened as itself when more directories were looked at than the server may hold open."""
    for number in range(300):
        (mounted.lower / f"d{number}").mkdir()
        (mounted.lower / f"d{number}/f").write_text(str(number))
    program = """
import os
for number in range(300): os.stat(f"d{number}/f")
for number in range(300):
    with open(f"d{number}/f") as file: assert file.read() == str(number)
"""
    mounted.server(python(program), "prlimit --nofile=300")


def test_what_is_removed_is_given_back(mounted: Mounted, way: str) -> None:
    """A file that was read and closed takes no space once it has no name: the server doesn't hold it open."""
    program = """
import glob, os
os.mkdir("d")
for number in range(50):
    with open(f"d/{number}", "w") as file: file.write("x")
for _ in range(3):
    for number in range(50): open(f"d/{number}").read()
for number in range(50): os.unlink(f"d/{number}")
open("d/last", "w").close()  # what was closed before, is by now
held = []
for fd in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        held.append(os.readlink(fd))
    except OSError:
        pass  # another user's, or closed by now
removed = [path for path in held if path.endswith(" (deleted)") and "/upper/d/" in path]
print(any(path.endswith("/upper") for path in held), removed)
"""
    assert "True []\n" == mounted.run(python(program))


def test_an_audit_sees_what_is_opened_again(mounted: Mounted, way: str) -> None:
    """Each opening of a file and each change of its times is in the audit."""
    (mounted.lower / "f").write_bytes(b"text")
    report = mounted.base / "audit"
    program = """
import os
for _ in range(5): open("f").read()
for number in range(5): os.utime("f", ns=(number, number))
"""
    mounted.run(python(program), options=(f"--audit={report}",))
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    counts = Counter(line["op"] for line in lines if line["path"] == "/f")
    assert {"open": 5, "utimens": 5} == counts


@pytest.mark.parametrize(("mode", "after"), [(0o644, 0o644), (0o6755, 0o755)])
def test_an_owner_that_stays_is_a_change_of_the_file(mounted: Mounted, way: str, mode: int, after: int) -> None:
    """chown(2) to the same owner moves st_ctime, and takes setuid away."""
    program = f"""
import os, stat, time
file = os.open("f", os.O_RDWR | os.O_CREAT)
os.fchmod(file, {mode}); os.utime(file, ns=(1, 2))
before = os.fstat(file).st_ctime_ns
time.sleep(0.05)
os.fchown(file, os.getuid(), os.getgid())
st = os.fstat(file)
print(oct(stat.S_IMODE(st.st_mode)), st.st_ctime_ns > before, st.st_mtime_ns)
"""
    assert f"{after:#o} True 2\n" == mounted.run(python(program))


def test_a_capability_goes_with_an_owner_that_stays(mounted: Mounted, way: str) -> None:
    """chown(2) to the same owner takes a file's capabilities away."""
    program = """
import errno, os
file = os.open("f", os.O_RDWR | os.O_CREAT)
os.setxattr(file, "security.capability", b"\\1\\0\\0\\2\\0\\4" + bytes(14))
os.fchown(file, os.getuid(), os.getgid())
try: print(os.getxattr(file, "security.capability"))
except OSError as error: print(errno.errorcode[error.errno])
"""
    assert "ENODATA\n" == mounted.run(python(program))


MODES = (0o644, 0o600, 0o4755, 0o755, 0o400, 0o640, 0o2755, 0o777, 0o7777, 0o666)


def test_permissions_are_what_was_set_last(mounted: Mounted, way: str) -> None:
    """Of open files, of whatever owner, with an ACL and without, then and in the next mount."""
    program = f"""
import os, stat, subprocess
def mode(file): return oct(stat.S_IMODE(os.stat(file).st_mode))
for name, prepare in (("plain", None), ("acl", "setfacl -m u:0:r acl"), ("back", "chmod 4711 back; chmod 600 back")):
    file = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
    if prepare: subprocess.run(["sh", "-c", prepare], check=True)
    for wanted in {MODES}:
        os.fchmod(file, wanted)
        assert mode(name) == mode(file) == oct(wanted), (name, mode(name), oct(wanted))
    before = os.stat(file).st_ctime_ns
    os.fchmod(file, 0o666)
    assert os.stat(file).st_ctime_ns > before
    os.fchmod(file, 0o640)
    os.close(file)
    print(name, mode(name))
"""
    told = "plain 0o640\nacl 0o640\nback 0o640\n"
    assert told == mounted.run(python(program))
    assert "640\n640\n640\n" == mounted.run("stat -c %a plain acl back")
    assert "mask::r--" in mounted.run("getfacl -p acl")


def test_permissions_beside_a_record(mounted: Mounted, way: str) -> None:
    """A file of another owner keeps its record, and one that was given back to root shows its own mode again."""
    script = """
    exec 3>f; chown 5:5 f; chmod 600 f; chmod 644 f; stat -c '%u %a' f; chown 0:0 f; chmod 600 f; chmod 751 f
    stat -c '%u %a' f
    """
    shown = mounted.run_with_ids(script, "stat -c '%u %a' f")
    assert ["5 644", "0 751", "0 751"] == shown.splitlines()


def test_a_directory_that_is_listed_again_shows_what_changed(mounted: Mounted, way: str) -> None:
    """Who lists a directory by a handle of the helper's gets what is there, whether that was listed before or not."""
    for number in range(30):
        (mounted.lower / f"d/{number}").mkdir(parents=True)
    program = """
import os
expected = {str(number) for number in range(30)}
for number in range(30):
    assert set(os.listdir("d")) == expected
    held = os.open("d", os.O_RDONLY)
    if number % 3 == 0: os.mkdir(f"d/new{number}"); expected.add(f"new{number}")
    if number % 3 == 1: os.rmdir(f"d/{number}"); expected.remove(str(number))
    assert set(os.listdir(held)) == expected
    os.fsync(held)
    os.close(held)
many = [os.open("d", os.O_RDONLY) for _ in range(1500)]
assert all(set(os.listdir(each)) == expected for each in many[::100])
for each in many: os.close(each)
assert set(os.listdir("d")) == expected
"""
    assert "" == mounted.run(python(program))


def test_permissions_are_kept_beside_a_handle_that_is_closed(mounted: Mounted, way: str) -> None:
    """What was set last holds, whatever was noted together with it."""
    program = """
import os, stat, time
first = os.open("f", os.O_RDWR | os.O_CREAT, 0o644)
os.fchmod(first, 0o640)
second = os.open("f", os.O_RDWR)
time.sleep(0.05)
os.close(second)
os.fchmod(first, 0o600)
time.sleep(0.05)
os.utime(first)
print(oct(stat.S_IMODE(os.stat("f").st_mode)), oct(stat.S_IMODE(os.fstat(first).st_mode)))
"""
    assert "0o600 0o600\n" == mounted.run(python(program))
