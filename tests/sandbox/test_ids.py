"""Who one is inside, whose the files are, and what of them may be read."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.running import python, stdout_until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.sandbox.running import Sandboxes

ME, MY_GROUP = os.getuid(), os.getgid()

# Of the tables themselves the sandbox has its own.
BACKUPS = (Path("/etc/shadow-"), Path("/etc/gshadow-"))


def first(paths: Iterable[Path], what: str) -> Path:
    """The first of the host's paths that will do; the test is skipped if there is none."""
    found = next(iter(paths), None)
    if found is None:
        pytest.skip(f"this host has no {what}")
    return found


def id_map(sb: Sandboxes, *options: str) -> list[tuple[int, int]]:
    """The ids that exist inside, as pairs of the first one and their number; uids and gids must not differ."""
    lines = sb(*options, "cat", "/proc/self/uid_map", "/proc/self/gid_map").stdout.splitlines()
    pairs = [(int(line.split()[0]), int(line.split()[2])) for line in lines]
    half = len(pairs) // 2
    assert pairs[:half] == pairs[half:]
    return pairs[:half]


def test_root_with_subordinate_ids(sb: Sandboxes, subordinate_ids: int) -> None:
    """By default one is root and has all subordinate ids besides."""
    extents = id_map(sb)
    assert (0, subordinate_ids + 1) == (extents[0][0], sum(size for _, size in extents))
    assert ["0", "0"] == sb("sh", "-c", "id -u; id -g").stdout.split()


def test_a_single_id(sb: Sandboxes) -> None:
    """With --userns single there is root and nobody else."""
    assert [(0, 1)] == id_map(sb, "--userns", "single")
    assert ["0", "0"] == sb("--userns", "single", "sh", "-c", "id -u; id -g").stdout.split()


def test_keep_id(sb: Sandboxes, subordinate_ids: int) -> None:
    """With --userns keep-id one is oneself; 0 exists, one's own files are one's own and root's are root's."""
    extents = id_map(sb, "--userns", "keep-id")
    assert (0, subordinate_ids + 1) == (extents[0][0], sum(size for _, size in extents))
    home = str(Path.home())
    result = sb("--userns", "keep-id", "sh", "-c", f"id -u; id -g; stat -c %u:%g {home} /etc/passwd")
    assert [str(ME), str(MY_GROUP), f"{ME}:{MY_GROUP}", "0:0"] == result.stdout.split()


def test_every_file_has_an_owner_that_exists(sb: Sandboxes) -> None:
    """With a single id all files are shown as root's, whoever has them on the host."""
    places = ("/", "/etc", "/var", "-xdev", "-maxdepth", "2")
    # /proc and /sys themselves are the kernel's, and belong to an id of the host that doesn't exist inside.
    found = sb(
        "--userns", "single", "find", *places, "!", "-path", "/proc", "!", "-path", "/sys", "-printf", "%U:%G\\n"
    )
    assert {"0:0"} == set(found.stdout.split())


def test_host_roots_files_can_be_written(sb: Sandboxes) -> None:
    """What is root's on the host is root's inside, and can be changed there; the host's file isn't."""
    before = Path("/etc/passwd").read_bytes()
    script = """
        stat -c %u:%g /etc/passwd; echo new:x:1:1::/: >>/etc/passwd; id -u new
        chmod 600 /etc/passwd; stat -c %a /etc/passwd
        touch /etc/new /usr/bin/new; rm /usr/bin/env; ls /usr/bin/env /usr/bin/new
        """
    result = sb("sh", "-c", script)
    assert ["0:0", "1", "600", "/usr/bin/new"] == result.stdout.split()
    assert before == Path("/etc/passwd").read_bytes()
    assert not Path("/etc/new").exists()


def test_root_cannot_read_what_the_user_cannot(sb: Sandboxes) -> None:
    """A host file that the user can't read is EACCES inside, although one is root and its mode seems to allow it."""
    secret = first((path for path in BACKUPS if path.exists()), "/etc/shadow-")
    if os.access(secret, os.R_OK):
        pytest.skip(f"{secret} can be read by everybody on this host")
    script = f"""
        import os
        print(os.stat({str(secret)!r}).st_uid)
        try:
            print(open({str(secret)!r}).read())
        except PermissionError:
            print("refused")
        """
    assert ["0", "refused"] == python(sb, script)


def test_an_unreadable_file_can_be_truncated(sb: Sandboxes) -> None:
    """Where no data is needed none has to be readable: O_TRUNC of a file that the user can't read succeeds."""
    secret = first((path for path in BACKUPS if path.exists()), "/etc/shadow-")
    before = secret.stat()
    assert "root::\n" == sb("sh", "-c", f"echo root:: >{secret}; cat {secret}").stdout
    assert before == secret.stat()


def test_an_unreadable_empty_file(sb: Sandboxes) -> None:
    """An empty lock file that the user can't read is opened for writing, written and locked."""
    candidates = ("/etc/.pwd.lock", "/var/lib/dpkg/lock", "/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/triggers/Lock")
    usable = (path for path in map(Path, candidates) if path.exists() and not os.access(path, os.R_OK))
    lock = first((path for path in usable if path.stat().st_size == 0), "empty file that the user can't read")
    script = f"""
        import fcntl, os
        lock = os.open({str(lock)!r}, os.O_RDWR)
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(lock, b"mine")
        print(os.pread(lock, 100, 0))
        """
    assert ["b'mine'"] == python(sb, script)
    assert 0 == lock.stat().st_size


def test_an_unlistable_directory(sb: Sandboxes) -> None:
    """A host directory that the user can't list is empty inside and can be filled."""
    candidates = ("/root", "/var/lib/private", "/var/cache/ldconfig", "/var/cache/private", "/lost+found")
    usable = (path for path in map(Path, candidates) if path.is_dir() and not os.access(path, os.R_OK | os.X_OK))
    closed = first(usable, "directory that the user can't list")
    script = f"ls -A {closed}; cd {closed} && mkdir -p a/b && echo mine >a/b/file; find . -type f; cat a/b/file"
    assert ["./a/b/file", "mine"] == sb("sh", "-c", script).stdout.split()


def test_chown_is_shown_inside_only(sb: Sandboxes, tmp_path: Path, subordinate_ids: int) -> None:
    """Other owners and special bits are shown inside; the layer's and the host's files are the user's alone."""
    old = tmp_path / "old"
    old.write_text("old")
    script = "touch new && chown 5:7 old new && chmod 4755 old && stat -c %u:%g:%a old new && echo ready && read x"
    process = sb.start("sh", "-c", script, directory=tmp_path)
    assert b"5:7:4755\n5:7:644\nready\n" == stdout_until(process, b"ready\n")
    upper = next(sb.layers.iterdir()) / "upper" / tmp_path.relative_to("/")
    for name in ("old", "new"):
        status = (upper / name).stat()
        assert (ME, MY_GROUP, 0) == (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode) & 0o7000)
    assert (ME, 0o644) == (old.stat().st_uid, stat.S_IMODE(old.stat().st_mode) | 0o044)
    process.communicate(b"\n", timeout=60)


def test_chown_to_an_id_that_does_not_exist(sb: Sandboxes, tmp_path: Path) -> None:
    """With a single id chown to another is EINVAL, and to root succeeds."""
    (tmp_path / "file").touch()
    script = f"""
        import os
        os.chown({str(tmp_path / "file")!r}, 0, 0)
        try:
            os.chown({str(tmp_path / "file")!r}, 5, 7)
        except OSError as error:
            print(error.strerror)
        """
    assert ["Invalid argument"] == python(sb, script, "--userns", "single")


def test_becoming_somebody_else(sb: Sandboxes, tmp_path: Path, subordinate_ids: int) -> None:
    """Root becomes another user, who owns what it makes and is refused what is root's."""
    tmp_path.chmod(0o755)
    script = """
        import os
        os.mkdir("/srv/theirs")
        os.chown("/srv/theirs", 1234, 1234)
        os.setgroups([]); os.setgid(1234); os.setuid(1234)
        open("/srv/theirs/file", "w").write("x")
        print(os.stat("/srv/theirs/file").st_uid)
        for path in ("/srv/mine", "/etc/passwd"):
            try:
                open(path, "w")
            except PermissionError:
                print("refused")
        """
    assert ["1234", "refused", "refused"] == python(sb, script)
