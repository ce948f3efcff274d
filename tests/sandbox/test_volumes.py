"""`--volume`, `--tmpfs` and `--read-only`: what stays the host's inside, what is in memory, what can't change."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


def test_a_directory_of_the_hosts(sb: Sandboxes, tmp_path: Path) -> None:
    """What is written there is on the host, all else isn't; with `ro` nothing is written."""
    (tmp_path / "in").write_text("from outside\n")
    done = sb(
        "-v", f"{tmp_path}:/data/deep", "--", "sh", "-c", "cat /data/deep/in; echo inside >/data/deep/out; ls /data"
    )
    assert ["from outside", "deep"] == done.stdout.splitlines()
    assert "inside\n" == (tmp_path / "out").read_text()
    refused = sb("-v", f"{tmp_path}:/data:ro", "--", "sh", "-c", "cat /data/in; echo >/data/no")
    assert ("from outside\n", True) == (refused.stdout, "Read-only file system" in refused.stderr)
    assert not (tmp_path / "no").exists()


def test_the_working_directory(sb: Sandboxes, tmp_path: Path) -> None:
    """`-v .` makes the directory that one is in the host's, at its own place."""
    assert 0 == sb("-v", ".", "--", "sh", "-c", "echo real >file", directory=tmp_path).returncode
    assert "real\n" == (tmp_path / "file").read_text()
    assert 0 == sb("--", "sh", "-c", "echo unreal >file", directory=tmp_path).returncode
    assert "real\n" == (tmp_path / "file").read_text()


def test_a_file_of_the_hosts(sb: Sandboxes, tmp_path: Path) -> None:
    """A single file goes over one that is there, and to a place that isn't."""
    (tmp_path / "motd").write_text("hello\n")
    for target in ("/etc/passwd", "/new/place/motd"):
        assert "hello\n" == sb("-v", f"{tmp_path}/motd:{target}", "cat", target).stdout


def test_a_volume_in_a_volume(sb: Sandboxes, tmp_path: Path) -> None:
    """In a place that is there; one that isn't is made in the sandbox's layer only, never on the host."""
    for name in ("a/inner", "b"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "b/file").write_text("b\n")
    volumes = ("-v", f"{tmp_path}/a:/mnt", "-v", f"{tmp_path}/b:/mnt/inner")
    assert "b\n" == sb(*volumes, "cat", "/mnt/inner/file").stdout
    refused = sb("-v", f"{tmp_path}/a:/mnt", "-v", f"{tmp_path}/b:/mnt/missing", "true")
    assert (125, True) == (refused.returncode, "cannot mount /mnt/missing" in refused.stderr)
    assert ["inner"] == [path.name for path in (tmp_path / "a").iterdir()]


@pytest.mark.parametrize("link", ["data", "/data", "/root", "/proc/self/root/etc"])
def test_links_where_a_volume_was_put(sb: Sandboxes, tmp_path: Path, link: str) -> None:
    """Whatever is made above its place inside, the end is the command's: nobody follows it on the host."""
    (tmp_path / "file").write_text("x\n")
    script = f"mv /data /x || exit 9; ln -s {link} /data; exit 7"
    done = sb("-v", f"{tmp_path}/file:/data/in", "--", "sh", "-c", script)
    assert (7, "sb: 2 files (0 B) thrown away; --keep keeps them\n") == (done.returncode, done.stderr)


def test_memory(sb: Sandboxes) -> None:
    """--tmpfs is empty, writable, of the size that was asked for, and gone at the end."""
    script = "cd /srv/x; ls -A; stat -f -c %T .; echo x >file; df --output=size . | tail -1; cat file"
    done = sb("--name", "box", "--tmpfs", "/srv/x:size=1m", "--", "sh", "-c", script)
    assert ["tmpfs", "1024", "x"] == done.stdout.split()
    assert done.stdout == sb.command("start", "-a", "box").stdout


def test_a_read_only_root(sb: Sandboxes, tmp_path: Path) -> None:
    """Nothing can be changed, but in volumes and in memory; without the option it can."""
    script = "touch /etc/x /tmp/x 2>&1; touch /data/x /mem/x && ls /data /mem"
    done = sb("--read-only", "-v", f"{tmp_path}:/data", "--tmpfs", "/mem", "--", "sh", "-c", script)
    assert 2 == done.stdout.count("Read-only file system")
    assert done.stdout.endswith("/data:\nx\n\n/mem:\nx\n")
    assert 0 == sb("touch", "/etc/x", "/tmp/x").returncode


@pytest.mark.parametrize("nested", [(), ("-q", "--nested")])
def test_the_sandbox_cannot_undo_it(sb: Sandboxes, tmp_path: Path, nested: tuple[str, ...]) -> None:
    """What is read-only can't be made writable from inside, nor what a volume covers be uncovered; a mount of the
    sandbox's own, where it may make one, can."""
    script = "mount -o remount,rw,bind /data; umount /data; touch /data/no; ls /data"
    (tmp_path / "in").touch()
    done = sb(*nested, "-v", f"{tmp_path}:/data:ro", "--", "sh", "-c", script)
    assert "in\n" == done.stdout
    own = "mount -t tmpfs none /data && mount -o remount,ro,bind /data && ! touch /data/no && "
    own += "mount -o remount,rw,bind /data && touch /data/no && umount /data && ls /data"
    assert ("in\n" if nested else "") == sb(*nested, "-v", f"{tmp_path}:/data:ro", "--", "sh", "-c", own).stdout
    assert ["in"] == [path.name for path in tmp_path.iterdir()]


def test_a_kept_sandbox_has_them_again(sb: Sandboxes, tmp_path: Path) -> None:
    """`start` binds what `run` bound, wherever it is called."""
    assert 0 == sb("--name", "box", "-v", "sub:/data", "true", directory=made(tmp_path / "sub").parent).returncode
    assert 0 == sb.command("start", "-a", "box", "touch", "/data/x").returncode
    assert (tmp_path / "sub/x").exists()


@pytest.mark.parametrize(
    ("volume", "why"),
    [
        ("/no/such", "No such file or directory"),
        ("/etc:relative", "not an absolute path"),
        ("/etc:/", "can't be covered"),
        ("/etc:/etc/passwd", "a directory can't go over a file"),
        ("/etc/passwd:/etc", "a file can't go over a directory"),
        ("/etc:/proc", "it lies in a file system that sb has mounted"),
    ],
)
def test_what_cannot_be_a_volume(sb: Sandboxes, volume: str, why: str) -> None:
    """One line with the reason; nothing runs."""
    refused = sb("-v", volume, "--", "echo", "ran")
    assert (125, "") == (refused.returncode, refused.stdout)
    assert why in refused.stderr


def test_two_at_one_place(sb: Sandboxes, tmp_path: Path) -> None:
    """Which of them would be seen? An error in one line, and a hint, also where one of them is a setting; a socket that
    is shown may be a volume too.
    """
    two = ("-v", f"{tmp_path}:/srv", "--tmpfs", "/srv/")
    for options, variables in ((two, {}), (two[2:], {"SB_VOLUME": two[1]})):
        refused = sb(*options, "true", variables=variables)
        first, _, hint = refused.stderr.splitlines()
        assert (125, "sb: --tmpfs /srv: something else is mounted at /srv already") == (refused.returncode, first)
        assert hint.startswith("hint: another place")
    with socket.socket(socket.AF_UNIX) as listener:
        path = str(tmp_path / "socket")
        listener.bind(path)
        assert 0 == sb("-v", path, "--show", path, "--show", str(tmp_path), "test", "-S", path).returncode


def test_a_volume_needs_a_place_in_the_one_around_it(sb: Sandboxes, tmp_path: Path) -> None:
    """Nothing is made on the host for a mount; where there is a place, it is used."""
    arguments = ("-v", f"{tmp_path}:/data", "-v", "/etc:/data/sub", "--", "ls", "/data/sub/passwd")
    refused = sb(*arguments)
    assert (125, True) == (refused.returncode, "there is no such place in the volume around it" in refused.stderr)
    assert [] == list(tmp_path.iterdir())
    made(tmp_path / "sub")
    assert 0 == sb(*arguments).returncode


def test_a_volume_over_what_sb_makes(sb: Sandboxes) -> None:
    """/etc has files of sb's own in memory beneath; what covers them doesn't count as the sandbox's memory."""
    done = sb("-q", "-v", "/etc:/etc:ro", "--memory", "200m", "--", "sh", "-c", "sleep 0.5; echo done")
    assert (0, "done\n", "") == (done.returncode, done.stdout, done.stderr)


def test_options_of_a_tmpfs(sb: Sandboxes) -> None:
    """As docker takes them: those that are flags hold, and so does the size."""
    script = "cp /bin/true /mem && ! /mem/true && ! head -c 2m /dev/zero >/mem/x && ! touch /fixed/x"
    done = sb("--tmpfs", "/mem:rw,noexec,nosuid,size=1m", "--tmpfs", "/fixed:ro", "--", "sh", "-c", script)
    assert 0 == done.returncode, done.stderr
    assert 0 == sb("--tmpfs", "/mem", "--", "sh", "-c", "cp /bin/true /mem && /mem/true").returncode


def made(directory: Path) -> Path:
    """The directory, once it is there."""
    directory.mkdir()
    return directory
