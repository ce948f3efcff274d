"""Files that only the compiled helper knows are the same as any others, also once Python gets to know them."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, NoReturn

import pytest

from fuse_overlay.ahead import Ahead
from fuse_overlay.errors import failure
from fuse_overlay.kernel.shortcut import Shortcut, Stub
from tests.overlay import ways
from tests.overlay.ways import python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fuse_overlay.ahead import Errand
    from tests.overlay.conftest import Driver, Mounted, Stage

RECORD = "user.containers.override_stat"
# Everything that stat(2) says of an entry, and what links and files have in them.
SHOW = """
import os
def shown(entry):
    st = os.lstat(entry.path)
    there = (st.st_mode, st.st_ino, entry.inode(), st.st_nlink, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns)
    if entry.is_symlink(): return *there, os.readlink(entry.path)
    return *there, os.listxattr(entry.path), open(entry.path).read() if entry.is_file() else None
"""


def in_two_mounts(mounted: Mounted, program: str) -> str:
    """What a Python program prints in a mount with the helper, and in one without, which must be the same."""
    ways.needs_helper()
    script = f"""
    for way in on off; do
        (cd {mounted.base}; rm -rf u w m; mkdir u w m
        export FUSE_OVERLAY_SHORTCUT=$way
        {sys.executable} -m fuse_overlay.cli -o lowerdir={mounted.lower},upperdir=u,workdir=w m
        cd m; {python(program)}
        cd ..; umount m)
    done
    """
    lines = mounted.run(script).splitlines()
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
    return "".join(f"{line}\n" for line in lines[: len(lines) // 2])


def test_records_are_shown_as_python_shows_them(mounted: Mounted) -> None:
    """Owners and modes by records, well formed or not, devices, and files without any, in a layer that has records."""
    below = mounted.lower / "d"
    below.mkdir()
    for number, record in enumerate(
        (
            *("0:0:0644", "0:0:04755", "0:0:100600", "65534:7:0640", "1:2:0600:file", "1:2:0600", "0:0:0644:char-1-3"),
            *("0:0:0644:block-8-0", "", "0:0", "x:0:0644", "-1:0:0644", "0:0:0999", " 0:0:0644", "0:0:0644 "),
            *("0:0:0644\0", "0:0:0644:block-8", "0:0:0644:char-1-3-4"),
            *("4294967295:0:0644", "4294967296:0:0644", "1" * 70 + ":0:0644", "0:0:+644", "0:0:1_0"),
            *("1:2:0600\0", "1:2:0600\0:file", "1:2:4755\0"),
        )
    ):
        (below / f"f{number:02}").write_text("" if "-" in record else "content")
        os.setxattr(below / f"f{number:02}", RECORD, record.encode())
    (below / "none").write_text("content")
    (below / "link").symlink_to("f01")
    (below / "more").write_text("content")
    os.setxattr(below / "more", "user.more", b"shown")
    os.setxattr(mounted.lower, RECORD, b"0:0:0755")
    show = "for turn in range(2):\n    for entry in sorted(os.scandir('d'), key=str): print(entry.name, shown(entry))\n"
    output = in_two_mounts(mounted, SHOW + show)
    assert 2 * 29 == output.count("\n")


@pytest.mark.parametrize("listed", ["all", "half"])
def test_a_listing_goes_on_when_the_directory_is_changed(mounted: Mounted, listed: str) -> None:
    """What stays is listed once by readers who have begun before, whatever is removed, made and renamed meanwhile."""
    below = mounted.lower / "d"
    below.mkdir()
    for number in range(3000):
        (below / f"f{number}").touch()
    program = f"""
import os
readers = [os.scandir("d") for _ in range(3)]
seen = [[next(reader).name for _ in range(count)] for reader, count in zip(readers, (1, 700, 1500))]
if {listed == "all"}: os.listdir("d")
for number in range(0, 3000, 3): os.unlink(f"d/f{{number}}")
for number in range(1, 3000, 30): os.rename(f"d/f{{number}}", f"d/moved{{number}}")
for number in range(500): open(f"d/new{{number}}", "w").close()
for reader, names in zip(readers, seen):
    names += [entry.name for entry in reader]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)
    stay = {{f"f{{number}}" for number in range(3000) if number % 3 and number % 30 != 1}}
    assert stay <= set(names), sorted(stay - set(names))[:9]
print(len(os.listdir("d")))
"""
    assert "2500\n" == in_two_mounts(mounted, program)


def test_open_files_stay_what_they_are(mounted: Mounted) -> None:
    """Files that were listed and opened are removed, replaced, renamed, written, cut and copied over: whoever has one
    open reads that, and later readers what is there then.
    """
    below = mounted.lower / "d"
    below.mkdir()
    for number in range(70):
        (below / f"f{number}").write_text(f"before {number}")
    program = """
import os, shutil
names = sorted(os.listdir("d"))
held = [open("d/" + name) for name in names]
for number, name in enumerate("d/" + name for name in names):
    match number % 7:
        case 0: os.unlink(name)
        case 1: open("d/new", "w").write("new"); os.rename("d/new", name)
        case 2: os.rename(name, name + "-moved")
        case 3: open(name, "a").write(", after")
        case 4: os.truncate(name, 3)
        case 5: os.chmod(name, 0o400)
        case 6: shutil.copyfile("d/" + names[number - 3], name)
print([file.read() for file in held])
print([(name, open("d/" + name).read(), oct(os.stat("d/" + name).st_mode)) for name in sorted(os.listdir("d"))])
for file in held: file.close()
print(len(os.listdir("d")), sorted({os.stat("d/" + name).st_nlink for name in os.listdir("d")}))
"""
    output = in_two_mounts(mounted, program)
    assert "60 [1]" in output
    assert {f"before {number}" for number in range(70)} == {path.read_text() for path in below.iterdir()}


def test_a_copy_of_an_earlier_mount_is_another_file(mounted: Mounted) -> None:
    """A copy has the number of its original on record. Where that one was listed first, by another path, the copy gets
    another number, and each is what it is.
    """
    (mounted.lower / "a/d").mkdir(parents=True)
    for name in ("f", "g"):
        (mounted.lower / "a/d" / name).write_text("before")
    layers = f"{mounted.lower}/a:{mounted.lower}"
    script = f"""
    for way in on off; do
        (export FUSE_OVERLAY_SHORTCUT=$way; cd {mounted.base}; rm -rf u w m; mkdir u w m
        mount() {{ {sys.executable} -m fuse_overlay.cli -o lowerdir={layers},upperdir=u,workdir=w m; }}
        mount; echo after >m/d/f; umount m
        mount; cd m; ls -l a/d >/dev/null; exec 3<a/d/f; cat d/f a/d/f
        test $(stat -c %i d/f) != $(stat -c %i a/d/f) && echo two
        echo more >>a/d/f; cat d/f a/d/f <&3; cat <&3; exec 3<&-; cd ..; umount m)
    done
    """
    ways.needs_helper()
    each = "after\nbeforetwo\nafter\nbeforemore\nbeforemore\n"
    assert each * 2 == mounted.run(script)


def test_a_thousand_open_files_of_few_descriptors(mounted: Mounted) -> None:
    """More files of listed directories are open than the server has descriptors; each is read and closed in the end."""
    ways.needs_helper()
    for directory in range(10):
        (mounted.lower / f"d{directory}").mkdir()
        for number in range(100):
            (mounted.lower / f"d{directory}/f{number}").write_text(f"{directory} {number}")
    program = """
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1200, 1200))
held = [(f"{d} {n}", open(f"d{d}/f{n}")) for d in range(10) for n in range(100) if os.listdir(f"d{d}")]
assert all(file.read() == text for text, file in held)
for _, file in held: file.close()
print(open("d3/f4").read())
"""
    script = f"""
    cd {mounted.base}; mkdir u w m
    (ulimit -n 256; {sys.executable} -m fuse_overlay.cli -o lowerdir={mounted.lower},upperdir=u,workdir=w m)
    cd m; {python(program)}
    cd ..; umount m
    """
    assert "3 4\n" == mounted.run(script)


def test_an_open_file_is_brought_to_the_disk(mounted: Mounted) -> None:
    """fsync(2), which comes with nothing but the descriptor, of a file that was opened for reading."""
    (mounted.lower / "d").mkdir()
    (mounted.lower / "d/f").write_text("content")
    program = """
import os
os.listdir("d")
fd = os.open("d/f", os.O_RDONLY)
os.fsync(fd)
os.fdatasync(fd)
print(os.read(fd, 9))
"""
    assert "b'content'\n" == in_two_mounts(mounted, program)


# A file system that has a file with a long name in a directory.
LONG_NAMES = """
import errno, os, stat, sys
import pyfuse3, trio

class Files(pyfuse3.Operations):
    def shown(self, inode):
        entry = pyfuse3.EntryAttributes()
        entry.st_ino, entry.st_nlink, entry.st_size = inode, 1, 0
        entry.st_mode = stat.S_IFDIR | 0o755 if inode < 3 else stat.S_IFREG | 0o644
        return entry
    async def getattr(self, inode, ctx=None): return self.shown(inode)
    async def lookup(self, parent, name, ctx=None):
        if parent == 1 and name == b"d": return self.shown(2)
        if parent == 2 and name == b"n" * 300: return self.shown(3)
        raise pyfuse3.FUSEError(errno.ENOENT)
    async def opendir(self, inode, ctx): return inode
    async def readdir(self, handle, start, token):
        if start == 0:
            name, inode = {1: (b"d", 2), 2: (b"n" * 300, 3)}[handle]
            pyfuse3.readdir_reply(token, name, self.shown(inode), 1)

pyfuse3.init(Files(), sys.argv[1], {"fsname=long"})
trio.run(pyfuse3.main)
"""
# The overlay, over a file system that it takes for one that answers at once.
OVER_IT = """
from fuse_overlay import cli, policy
policy.is_remote = lambda kind: False
cli.main()
"""


@pytest.mark.usefixtures("way")
def test_names_that_are_too_long(mounted: Mounted) -> None:
    """Some file systems have names of more than 255 bytes, which nobody can look up here, whoever is asked."""
    (mounted.base / "served.py").write_text(LONG_NAMES)
    (mounted.base / "over.py").write_text(OVER_IT)
    program = """
import os
for act in (os.lstat, lambda path: os.chmod(path, 0o600)):
    try:
        act("d/" + "n" * 300)
    except OSError as error:
        print(error.strerror)
print([len(name) for name in os.listdir("d")])
"""
    script = f"""
    cd {mounted.base}; mkdir l m; {sys.executable} served.py l & below=$!
    until mountpoint -q l; do kill -0 $below; sleep 0.02; done
    {sys.executable} over.py -o lowerdir=l m
    cd m; stat d/none 2>&- || {python(program)}
    cd ..; umount m; umount l; wait $below
    """
    assert 2 * f"{os.strerror(errno.ENAMETOOLONG)}\n" + "[300]\n" == mounted.run(script)


@pytest.mark.usefixtures("way")
def test_an_index_counts_for_all_of_a_layer_that_has_one(mounted: Mounted) -> None:
    """Of a layer whose root can't have attributes, all owners are in indexes: of what is on other file systems, too."""
    index = """
import os
from fuse_overlay import indexes
for path, records in ((".", {}), ("d", {b"f": {b"user.containers.override_stat": b"1:2:0640"}})):
    indexes.write(os.open(path, os.O_PATH), records)
"""
    script = f"""
    cd {mounted.base}; mkdir l m; mount -t ramfs none l; cd l; mkdir d; mount -t tmpfs none d
    echo content >d/f; touch d/g; PYTHONPATH={os.getcwd()} {python(index)}
    cd ..; {sys.executable} -m fuse_overlay.cli -o lowerdir=l m
    cd m; stat -c '%n %u %g %a' d/g; stat -c '%n %u %g %a' d/f; cd ..; umount m
    """
    assert "d/g 0 0 644\nd/f 1 2 640\n" == mounted.run_with_ids(script)


@pytest.mark.usefixtures("way")
def test_listings_have_the_numbers_that_files_have(mounted: Mounted) -> None:
    """Of files whose numbers others have got, too."""
    (mounted.lower / "a/d").mkdir(parents=True)
    for number in range(9):
        (mounted.lower / f"a/d/f{number}").touch()
    layers = f"{mounted.lower}/a:{mounted.lower}"
    program = """
import os
for number in (2, 3, 7): os.chmod(f"d/f{number}", 0o600)
for turn in range(2):
    entries = list(os.scandir("a/d"))
    assert len(entries) == 9
    print([entry.name for entry in entries if entry.inode() != os.lstat(entry).st_ino])
"""
    script = f"""
    cd {mounted.base}; mkdir u w m
    {sys.executable} -m fuse_overlay.cli -o lowerdir={layers},upperdir=u,workdir=w m
    cd m; {python(program)}
    cd ..; umount m
    """
    assert "[]\n[]\n" == mounted.run(script)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("change", ["many", "moved"])
def test_a_listing_goes_on_when_its_directory_becomes_another(mounted: Mounted, change: str) -> None:
    """So it does when so much is made in the directory that a thread lists it from then on, and when the directory is
    moved, and has no layers any more.
    """
    (mounted.lower / "d").mkdir()
    for number in range(3000):
        (mounted.lower / f"d/f{number}").touch()
    act = {
        "many": 'for number in range(7000): open(f"d/{number}-is-new-in-here", "w").close()',
        "moved": 'os.rename("d", "e")',
    }
    program = f"""
import os
readers = [os.scandir("d") for _ in range(2)]
seen = [[next(reader).name for _ in range(count)] for reader, count in zip(readers, (1, 1500))]
{act[change]}
for reader, names in zip(readers, seen):
    names += [entry.name for entry in reader]
    assert len(names) == len(set(names)), sum(names.count(name) > 1 for name in names)
    lacking = {{f"f{{number}}" for number in range(3000)}} - set(names)
    assert not lacking, len(lacking)
"""
    script = f"""
    cd {mounted.base}; mkdir t m; mount -t tmpfs none t; mkdir t/u t/w
    {sys.executable} -m fuse_overlay.cli -o lowerdir={mounted.lower},upperdir=t/u,workdir=t/w m
    cd m; {python(program)}
    cd ..; umount m
    """
    assert "" == mounted.run(script)


def stub_of(monkeypatch: pytest.MonkeyPatch, driver: Driver, path: str) -> int:
    """Have the helper, and not Python, know a file; returns its number."""
    node = driver.entry(path).node
    above = node.parent
    assert above is not None
    above.lookups += 1
    stubs = {node.ino: Stub(node.key, above.ino, node.name, 1, is_open=False)}

    def drop(_: Shortcut, ino: int) -> list[int]:
        del stubs[ino]
        return []

    driver.overlay.forget(node.ino, node.lookups)
    assert node.ino not in driver.overlay.tree.table.nodes
    monkeypatch.setattr(Shortcut, "stub", lambda _, ino: stubs.get(ino))
    monkeypatch.setattr(Shortcut, "drop_stub", drop)
    return node.ino


@pytest.mark.parametrize("way_to_write", ["open", "truncate", "rename", "link"])
def test_large_files_are_copied_beforehand(stage: Stage, monkeypatch: pytest.MonkeyPatch, way_to_write: str) -> None:
    """By a thread, so that others needn't wait: also those that Python has no node of yet."""
    driver = stage.over(stage.lower("lower", {"d": {"large": os.urandom(9 << 20)}}))
    ahead = Ahead(driver.overlay)
    number = stub_of(monkeypatch, driver, "d/large")
    above = driver.ino("d")
    errands: dict[str, Callable[[], Iterable[Errand]]] = {
        "open": lambda: ahead.opened(number, os.O_RDWR),
        "truncate": lambda: ahead.changed(number, 9 << 20),
        "rename": lambda: ahead.moved_entry(above, b"large", 1, b"here"),
        "link": lambda: ahead.linked(number, 1, b"here"),
    }
    assert 1 == len(list(errands[way_to_write]()))
    assert 1 == driver.overlay.getattr(number).node.lookups


def test_what_cannot_be_looked_at_now_is_not_lost(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of a file ends with the error if there are no descriptors to find it with; the next one finds it."""
    driver = stage.over(stage.lower("lower", {"d": {"f": b"content"}}))
    number = stub_of(monkeypatch, driver, "d/f")

    def fails(*_: object) -> NoReturn:
        raise failure(errno.EMFILE)

    with monkeypatch.context() as patched:
        patched.setattr(driver.overlay.tree, "find", fails)
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            driver.overlay.getattr(number)
        assert [] == list(Ahead(driver.overlay).opened(number, os.O_RDWR))
    assert len(b"content") == driver.overlay.getattr(number).st.st_size
