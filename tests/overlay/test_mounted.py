"""What programs find through a real mount, as the kernel's cache and the server play together."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Count
    from tests.overlay.conftest import Mounted, Plant

# The kernel may show a live file's old state for one second; a busy machine takes longer to get round to it.
PATIENCE = 10


def digest(top: Path) -> str:
    """A digest of all names, types, modes, times and contents below a directory."""
    total = hashlib.sha256()
    for path in sorted(top.rglob("*")):
        st = path.lstat()
        total.update(f"{path.relative_to(top)} {st.st_mode} {st.st_mtime_ns} {st.st_nlink}\n".encode())
        if stat.S_ISREG(st.st_mode):
            total.update(path.read_bytes())
    return total.hexdigest()


def test_git(mounted: Mounted) -> None:
    """A repository of the lower directory takes commits, is collected and stays sound."""
    script = """
    git init -q repo; cd repo; git config user.name a; git config user.email a@example.org
    for n in $(seq 20); do echo $n >file$n; done; git add .; git commit -qm first
    """
    mounted.run(f"cd {mounted.lower}; {script}")
    before = digest(mounted.lower)
    output = mounted.run(
        'cd repo; test -z "$(git status --porcelain)"; for n in $(seq 5); do echo x >>file$n; done; '
        "git commit -qam second; git gc -q; git fsck --strict; git log --format=%s; git mv file1 other; git stash -q; "
        "git status --porcelain"
    )
    assert ["second", "first"] == output.split()
    assert before == digest(mounted.lower)


def test_compile_and_run(mounted: Mounted) -> None:
    """gcc writes a program that runs, on top of sources from below."""
    (mounted.lower / "a.c").write_text('#include <stdio.h>\nint main(void){return printf("%s\\n", "built") < 0;}\n')
    assert "built\n" == mounted.run("gcc -o program a.c; ./program; gcc -o program a.c -O2; ./program >/dev/null")


def test_a_program_from_below_runs(mounted: Mounted) -> None:
    """An executable of the lower layer can be run, and replaced while it runs."""
    shutil.copy(shutil.which("sleep") or "", mounted.lower / "nap")
    mounted.run(
        "./nap 0; ./nap 100 & until grep -q nap /proc/$!/comm; do :; done; "
        "cp nap other; rm nap; mv other nap; ./nap 0; kill $!; wait $! || true"
    )


def test_tar_out_and_in(mounted: Mounted, plant: Plant) -> None:
    """An archive of the merged tree unpacks to the same tree."""
    plant(mounted.lower, {"d": {f"f{n}": os.urandom(n * 50) for n in range(200)}, "l": "d/f1", "empty": {}})
    mounted.run(
        "tar cf ../archive.tar .; mkdir ../plain copy; "
        "tar xf ../archive.tar -C ../plain; tar xf ../archive.tar -C copy; "
        "diff -r --no-dereference copy ../plain; rm -rf copy; diff -r --no-dereference . ../plain"
    )


def test_removing_everything(mounted: Mounted, plant: Plant) -> None:
    """rm -rf empties the merged tree, leaves the lower one as it was, and the upper to its user."""
    plant(mounted.lower, {f"d{n}": {f"f{m}": b"x" for m in range(30)} for n in range(20)})
    before = digest(mounted.lower)
    assert "" == mounted.run("chmod 0 d1; rm -rf -- *; ls -A")
    assert before == digest(mounted.lower)
    assert 20 == len(os.listdir(mounted.upper))
    shutil.rmtree(mounted.upper)


def test_sqlite(mounted: Mounted) -> None:
    """A database from below is changed by two writers at once and is sound."""
    mounted.run(f"sqlite3 {mounted.lower}/db 'create table t(a); insert into t values (0)'")
    insert = "for n in $(seq 50); do echo 'insert into t values (1);'; done | sqlite3 -cmd '.timeout 60000' db"
    assert "101\nok\n" == mounted.run(
        f"({insert}) & {insert}; wait; sqlite3 db 'select count(*) from t; pragma integrity_check'"
    )


def test_shared_mappings(mounted: Mounted) -> None:
    """What is written by a shared mapping is read by others, and after the file was opened again."""
    (mounted.lower / "f").write_bytes(b"a" * 8192)
    mounted.run(
        """python3 - <<'END'
import mmap
reader = open("f", "rb")
seen = mmap.mmap(reader.fileno(), 0, access=mmap.ACCESS_READ)
assert seen[:2] == b"aa"
with open("f", "r+b") as file, mmap.mmap(file.fileno(), 0) as area:
    area[0:1] = b"b"
    area[5000:5001] = b"c"
    area.flush()
assert open("f", "rb").read()[4999:5002] == b"aca"
assert seen[:2] == b"ba", seen[:2]
assert reader.read(2) == b"ba"
END"""
    )
    assert b"ba" == (mounted.upper / "f").read_bytes()[:2]


def test_renames_in_a_storm(mounted: Mounted, count: Count) -> None:
    """Four processes rename files over each other, and one is left."""
    (mounted.lower / "f").write_bytes(b"x")
    rounds = count(100, 2000)
    mounted.run(
        f"for p in 1 2 3 4; do (for n in $(seq {rounds}); do echo $p >f.$p; mv f.$p f; test -s f; done) & done; wait; "
        'test "$(ls)" = f'
    )


def test_a_renamed_directory_is_at_one_of_two_places(mounted: Mounted, plant: Plant) -> None:
    """A lower directory, which is copied up for it, is whole at its new name as soon as it isn't at the old one."""
    for number in range(20):
        plant(mounted.lower / f"a{number}", {"in": {str(name): b"x" for name in range(50)}})
        plant(mounted.lower / f"b{number}", {})
    mounted.run(
        """python3 - <<'END'
import os
renamer = os.fork()
if renamer == 0:
    for number in range(20):
        os.rename(f"a{number}", f"b{number}")
    os._exit(0)
seen = set()
while len(seen) < 20:
    for number in range(20):
        try:
            assert len(os.listdir(f"a{number}/in")) == 50
        except FileNotFoundError:
            assert len(os.listdir(f"b{number}/in")) == 50
            assert open(f"b{number}/in/49").read() == "x"
            seen.add(number)
assert os.waitpid(renamer, 0)[1] == 0
END"""
    )


def test_a_large_directory_removed_while_listed(mounted: Mounted) -> None:
    """Of 2,000 entries, deleted between the pieces of a listing, none comes twice and all go."""
    for number in range(2000):
        (mounted.lower / f"a rather long name to fill the listing {number}").touch()
    mounted.run(
        """python3 - <<'END'
import os
seen = set()
with os.scandir(".") as entries:
    for entry in entries:
        assert entry.name not in seen
        seen.add(entry.name)
        os.unlink(entry.name)
assert len(seen) == 2000, len(seen)
assert os.listdir(".") == []
END"""
    )


def test_unlinked_files_stay_open(mounted: Mounted) -> None:
    """Files from above and below can be read and written after their names are gone."""
    (mounted.lower / "below").write_bytes(b"below")
    mounted.run(
        """python3 - <<'END'
import os
for name, content in (("below", b"below"), ("above", b"")):
    file = open(name, "a+b")
    os.unlink(name)
    assert not os.path.exists(name)
    assert os.fstat(file.fileno()).st_nlink == 0
    file.write(b"more")
    file.flush()
    os.fchmod(file.fileno(), 0o640)
    file.seek(0)
    assert file.read() == content + b"more"
    assert os.fstat(file.fileno()).st_mode & 0o777 == 0o640
reader = os.open("/dev/null", os.O_RDONLY)
END"""
    )
    assert [] == os.listdir(mounted.work)


def test_appending_by_two_processes(mounted: Mounted) -> None:
    """Lines that two processes append to one file are all there, whole."""
    (mounted.lower / "log").write_text("start\n")
    append = "for n in $(seq 300); do echo 'a line of some length that must stay whole' >>log; done"
    mounted.run(f'({append}) & {append}; wait; test "$(sort log | uniq -c | wc -l)" = 2; test "$(wc -l <log)" = 601')


def test_direct_io(mounted: Mounted) -> None:
    """O_DIRECT reads and writes see the same data as buffered ones."""
    (mounted.lower / "f").write_bytes(b"a" * 8192)
    mounted.run(
        "dd if=f of=g iflag=direct oflag=direct bs=4096 status=none; cmp f g; "
        "printf b | dd of=g conv=notrunc status=none; dd if=g iflag=direct bs=4096 count=1 status=none | head -c 2"
    )


def test_a_changed_host_file_is_seen(mounted: Mounted) -> None:
    """A live lower file that the host changes or replaces is seen anew within a second, by size and by content."""
    host = mounted.lower / "f"
    host.write_text("first\n")
    process = mounted.start("while read -r; do echo \"$(cat f | tr -d '\\n') $(stat -c %s f)\"; done", live=True)

    def see() -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return process.stdout.readline()

    assert "first 6\n" == see()
    for expected in ("second, longer\n", "3rd\n"):
        host.write_text(expected)
        deadline = time.monotonic() + PATIENCE
        while see() != f"{expected.strip()} {len(expected)}\n":
            assert time.monotonic() < deadline
            time.sleep(0.1)
    process.communicate(timeout=60)


def test_a_hidden_file_is_not_there(mounted: Mounted) -> None:
    """A hidden path is ENOENT, and one of the same name can be made."""
    secret = mounted.lower / "secret"
    secret.write_text("secret")
    os.link(secret, mounted.lower / "alias")
    mounted.run(
        'test "$(ls)" = ""; (! cat secret); (! cat alias); echo mine >secret; test "$(cat secret)" = mine',
        live=True,
        hidden=(secret,),
    )
    assert "secret" == secret.read_text()


def test_what_the_kernel_refuses_comes_as_its_errno(mounted: Mounted) -> None:
    """Names of 255 and 256 bytes, any byte in them, and calls that the overlay doesn't have."""
    mounted.run(
        """python3 - <<'END'
import errno, os, socket
def number(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except OSError as error:
        return error.errno
    return 0
name = bytes(byte for byte in range(1, 256) if byte != ord("/")) + b"x"
open(name, "w").close()
assert os.listdir(b".") == [name]
os.unlink(name)
assert number(open, b"a" * 255, "w") == 0
os.rename(b"a" * 255, b"b" * 255)
os.unlink(b"b" * 255)
assert number(open, b"a" * 256, "w") == errno.ENAMETOOLONG
assert number(os.mkdir, ".wh.x") == errno.EPERM
open("f", "w").close()
assert number(os.setxattr, "f", "trusted.x", b"") == errno.EPERM
assert number(os.getxattr, "f", "user.none") == errno.ENODATA
assert number(os.setxattr, "f", "user.one", b"", os.XATTR_REPLACE) == errno.ENODATA
assert number(os.setxattr, "f", "user.one", b"") == 0
assert number(os.setxattr, "f", "user.one", b"", os.XATTR_CREATE) == errno.EEXIST
assert number(os.mknod, "node", 0o20600, os.makedev(1, 3)) == errno.EPERM
assert number(os.rmdir, "f") == errno.ENOTDIR
assert number(os.unlink, "none") == errno.ENOENT
descriptor = os.open("f", os.O_RDWR)
assert number(os.posix_fallocate, descriptor, 0, 10) in (0, errno.EOPNOTSUPP)
assert os.statvfs(".").f_namemax == 255
os.fsync(os.open(".", os.O_RDONLY))
os.fsync(descriptor)
END"""
    )


def test_odd_files(mounted: Mounted) -> None:
    """FIFOs, sockets, sparse files, deep trees, hard links and odd modes work as on any file system."""
    mounted.run(
        """
        mkfifo pipe; (echo through >pipe) & test "$(cat pipe)" = through; wait
        truncate -s 5G large; test "$(stat -c %s large)" = 5368709120
        printf end >>large; test "$(tail -c 3 large)" = end
        echo x >one; ln one two; echo y >>two; test "$(tr -d '\\n' <one)" = xy; rm one; test "$(stat -c %h two)" = 1
        chmod 4711 two; test "$(stat -c %a two)" = 4711; echo z >>two; chmod 0 two; test "$(stat -c %a two)" = 0
        chown -h 0:0 two; touch -h -d @1000000000.123456789 two; stat -c %.Y two | grep -q 1000000000.12345678
        python3 -c 'import os
for n in range(300): os.mkdir("d" * 20); os.chdir("d" * 20)
open("f", "w").write("deep")'
        find . -name f -size 4c | grep -c . >/dev/null; rm -rf dddddddddddddddddddd; test ! -e dddddddddddddddddddd
        python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.bind("sock"); s.listen()
c = socket.socket(socket.AF_UNIX); c.connect("sock")'
        """
    )
    assert {"pipe": True} == {name.name: True for name in mounted.upper.iterdir() if name.is_fifo()}
    real = (mounted.upper / "two").stat()
    assert 0o600 == stat.S_IMODE(real.st_mode)


def test_ten_thousand_lower_files_stay_as_they_are(mounted: Mounted, count: Count) -> None:
    """Whatever is done inside to a large tree, the lower directory is the same afterwards."""
    total = count(1000, 10000)
    for number in range(total):
        directory = mounted.lower / f"d{number % 100}"
        directory.mkdir(exist_ok=True)
        (directory / f"f{number}").write_text(str(number))
    before = digest(mounted.lower)
    mounted.run(
        "find . -name '*1' -type f -exec sh -c 'for f; do echo x >>$f; done' sh {} +; chmod -R u+x .; "
        "mv d1 e1; mv d2/* d3/; rm -rf d4; find . -name '*7' -delete; touch d5/*; ln d6/f6 d6/link; "
        "test -d e1; test ! -e d4"
    )
    assert before == digest(mounted.lower)
