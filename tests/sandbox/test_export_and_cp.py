"""`sb export` and `sb cp`: a sandbox's files elsewhere, and others in it."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.reviewing import change, diff, snapshot
from tests.sandbox.running import SB, stdout_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory of the host's with a bit of everything."""
    made = tmp_path / "host"
    (made / "directory").mkdir(parents=True)
    (made / "file").write_text("one\n")
    (made / "directory/inner").write_text("inner\n")
    (made / "link").symlink_to("file")
    return made


def exported(sb: Sandboxes, name: str = "box") -> tarfile.TarFile:
    """The archive that `sb export` writes to stdout."""
    done = subprocess.run([SB, "export", name], env=sb.environment, stdout=subprocess.PIPE, check=True)
    return tarfile.open(fileobj=io.BytesIO(done.stdout))


def test_the_layer_as_an_archive(sb: Sandboxes, host: Path, subordinate_ids: int) -> None:
    """Of this machine's view: what was changed, with owners, modes, links and attributes, and whiteouts."""
    assert subordinate_ids
    script = "echo two >file; chown 5:6 file; mkdir -m 2755 new; echo x >new/a; ln new/a new/b; rm -r directory"
    change(sb, host, f"{script}; ln -s a new/c; setfattr -n user.x -v 1 new/a; touch $'new/d\\n\\xff'")
    with exported(sb) as archive:
        found = {each.name.removeprefix(f"{str(host)[1:]}/"): each for each in archive}
        assert [".wh.directory", "file", "new", "new/a", "new/b", "new/c", "new/d\n\udcff"] == sorted(found)
        file = found["file"]
        assert (5, 6, 0o644, 4) == (file.uid, file.gid, file.mode, file.size)
        assert (0, 0, 0o2755, True) == (found["new"].uid, found["new"].gid, found["new"].mode, found["new"].isdir())
        assert (True, found["new/a"].name) == (found["new/b"].islnk(), found["new/b"].linkname)
        assert "1" == found["new/a"].pax_headers["SCHILY.xattr.user.x"]
        data = archive.extractfile(file)
        assert data is not None
        assert b"two\n" == data.read()


def test_the_whole_tree_as_an_archive(sb: Sandboxes, program: Callable[[str], Path], tmp_path: Path) -> None:
    """Of another root: all that the sandbox sees, which tar unpacks as it was."""
    root = tmp_path / "root"
    for name in ("bin", "proc", "dev", "sys", "etc"):
        (root / name).mkdir(parents=True)
    subprocess.run(["cp", program("busybox"), root / "bin/busybox"], check=True)
    (root / "bin/sh").symlink_to("busybox")
    (root / "etc/old").write_text("old\n")
    command = "echo new >/etc/new; rm /etc/old"
    assert 0 == sb("--rootfs", str(root), "--name", "box", "--", "/bin/sh", "-c", command).returncode
    assert 0 == sb.command("export", "-o", str(tmp_path / "box.tar"), "box").returncode
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "box.tar", "-C", tmp_path / "unpacked"], check=True)
    (root / "etc/old").unlink()
    (root / "etc/new").write_text("new\n")
    assert {**snapshot(root), ".": ()} == {**snapshot(tmp_path / "unpacked"), ".": ()}


def test_an_archive_is_whole_or_not_there(sb: Sandboxes, host: Path) -> None:
    """A file that can't be written isn't begun, and an error has its path."""
    change(sb, host, "echo x >new")
    failed = sb.command("export", "-o", "/nowhere/box.tar", "box")
    assert (125, "sb: cannot write /nowhere/box.tar: No such file or directory\n") == (failed.returncode, failed.stderr)


def test_out_of_a_sandbox(sb: Sandboxes, host: Path, tmp_path: Path) -> None:
    """Files and directories, of the layer or below it, through the sandbox's symlinks: the caller's own, with modes and
    times, and never setuid.
    """
    change(
        sb, host, "echo two >directory/second; chmod 4750 directory/second; touch -d @1000 directory/second; rm file"
    )
    target = tmp_path / "target"
    target.mkdir()
    assert 0 == sb.command("cp", f"box:{host}/directory", str(target)).returncode
    assert ["inner", "second"] == sorted(os.listdir(target / "directory"))
    st = (target / "directory/second").stat()
    assert (0o750, 1000, os.getuid()) == (stat.S_IMODE(st.st_mode), st.st_mtime, st.st_uid)
    assert 0 == sb.command("cp", "box:directory/inner", str(target / "named")).returncode
    assert "inner\n" == (target / "named").read_text()
    gone = sb.command("cp", f"box:{host}/file", str(target))
    assert (125, f"sb: cannot copy {host}/file: No such file or directory\n") == (gone.returncode, gone.stderr)


def test_through_a_symlink_to_the_root(sb: Sandboxes, host: Path) -> None:
    """A link to / at the end of a path is the root, not the directory that the link lies in."""
    change(sb, host, "ln -s / root")
    assert 0 == sb.command("cp", str(host / "file"), f"box:{host}/root").returncode
    assert ["A /file", "A root"] == diff(sb, host)


def test_what_is_left_out_takes_nothing_with_it(sb: Sandboxes, host: Path, tmp_path: Path) -> None:
    """A FIFO isn't copied, so the file of its name stays."""
    change(sb, host, "mkdir new; mkfifo new/file")
    (tmp_path / "target").mkdir()
    (tmp_path / "target/file").write_text("precious\n")
    done = sb.command("cp", f"box:{host}/new/.", str(tmp_path / "target"))
    said = "sb: warning: left out: file: neither a file nor a directory nor a symlink\n"
    assert (0, said) == (done.returncode, done.stderr)
    assert "precious\n" == (tmp_path / "target/file").read_text()


def test_a_symlink_leads_nowhere(sb: Sandboxes, host: Path, tmp_path: Path) -> None:
    """A link that an earlier copy brought doesn't lead a later one out of the target."""
    precious = tmp_path / "precious"
    precious.mkdir()
    change(sb, host, f"mkdir out; ln -s {precious} out/way")
    target = tmp_path / "target"
    assert 0 == sb.command("cp", f"box:{host}/out", str(target)).returncode
    assert (target / "way").is_symlink()
    assert 0 == sb.command("exec", "box", "sh", "-c", f"cd {host}/out; rm way; mkdir way; echo x >way/file").returncode
    assert 0 == sb.command("cp", f"box:{host}/out/way", str(tmp_path / "target")).returncode
    assert ([], ["file"]) == (os.listdir(precious), os.listdir(target / "way"))


def test_into_a_sandbox(sb: Sandboxes, host: Path, tmp_path: Path) -> None:
    """What is copied in is root's there, with its mode; it can be named, or go into a directory."""
    change(sb, host, "true")
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep/file").write_text("x\n")
    (source / "deep/file").chmod(0o750)
    assert 0 == sb.command("cp", str(source), f"box:{host}/directory").returncode
    assert 0 == sb.command("cp", str(source / "deep/file"), "box:file").returncode
    assert ["A directory/source", "A directory/source/deep", "A directory/source/deep/file", "C file"] == diff(sb, host)
    seen = sb.command("exec", "box", "stat", "-c", "%u %g %a", f"{host}/directory/source/deep/file", f"{host}/file")
    assert "0 0 750\n0 0 750\n" == seen.stdout
    assert "one\n" == (host / "file").read_text()


def test_into_itself(sb: Sandboxes, host: Path, tmp_path: Path) -> None:
    """A directory that the sandbox sees as it is here isn't copied into itself, nor the sandbox's layer into itself."""
    change(sb, host, "echo x >new")
    refused = sb.command("cp", f"box:{host}", f"{host}/directory/copy")
    assert (125, f"sb: cannot copy {host}: {host}/directory/copy lies in it\n") == (refused.returncode, refused.stderr)
    assert ["inner"] == os.listdir(host / "directory")
    assert 0 == sb.command("cp", f"{sb.layers.parent}/data", f"box:{host}").returncode
    shown = diff(sb, host)
    assert "A data/sb/sandboxes" in shown
    assert [] == [line for line in shown if line.endswith("/upper")]


def test_an_archive_out_of_a_sandbox(sb: Sandboxes, host: Path, tmp_path: Path) -> None:
    """To `-`: a tar of a file or a directory by its own name, with the owners that are seen inside; as docker's."""
    change(sb, host, "chmod 2750 directory; echo two >directory/second")
    for path, names in (("directory", ["directory", "directory/inner", "directory/second"]), ("file", ["file"])):
        done = subprocess.run([SB, "cp", f"box:{path}", "-"], env=sb.environment, stdout=subprocess.PIPE, check=True)
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            found = {each.name: each for each in archive}
        assert names == sorted(found)
    assert not os.path.lexists("-")
    whole = subprocess.run([SB, "cp", "box:directory/.", "-"], env=sb.environment, stdout=subprocess.PIPE, check=True)
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "-x", "-C", tmp_path / "unpacked"], input=whole.stdout, check=True)
    assert ["inner", "second"] == sorted(os.listdir(tmp_path / "unpacked"))
    gone = sb.command("cp", "box:gone", "-")
    assert (125, f"sb: cannot copy {host}/gone: No such file or directory\n") == (gone.returncode, gone.stderr)


@pytest.mark.parametrize("flag", ["", "z", "J"])
def test_an_archive_into_a_sandbox(sb: Sandboxes, host: Path, tmp_path: Path, flag: str) -> None:
    """From `-`: what is in a tar, compressed or not, goes into a directory, with modes, times and links; the owners are
    those that a copy has.
    """
    change(sb, host, "true")
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep/file").write_text("x\n")
    (source / "deep/file").chmod(0o4750)
    (source / "deep/other").hardlink_to(source / "deep/file")
    (source / "deep/link").symlink_to("/nowhere")
    os.utime(source / "deep", (1000, 1000))
    (source / "deep").chmod(0o500)
    packed = subprocess.run(["tar", f"-c{flag}", "-C", source, "."], stdout=subprocess.PIPE, check=True).stdout
    done = subprocess.run([SB, "cp", "-", f"box:{host}/directory"], env=sb.environment, input=packed, check=False)
    assert 0 == done.returncode
    names = ("", "/file", "/link", "/other")
    assert [f"A directory/deep{name}" for name in names] == diff(sb, host)
    look = 'cd "$0/directory/deep"; stat -c "%u %a %h" file; stat -c "%a %Y" .; cat other; readlink link'
    seen = sb.command("exec", "box", "sh", "-c", look, str(host)).stdout
    assert "0 750 2\n500 1000\nx\n/nowhere\n" == seen


def test_a_hostile_archive(sb: Sandboxes, host: Path, tmp_path: Path) -> None:
    """A path with .. and one beneath a symbolic link are refused, garbage too; a device is left out."""
    change(sb, host, "true")

    def given(data: bytes) -> tuple[int, str]:
        command = [str(SB), "cp", "-", f"box:{host}"]
        done = subprocess.run(command, env=sb.environment, input=data, capture_output=True, check=False)
        return done.returncode, done.stderr.decode()

    def archive(*members: tuple[str, bytes, str]) -> bytes:
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as file:
            for name, kind, link in members:
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, link
                file.addfile(info)
        return made.getvalue()

    assert given(archive(("a/../../x", tarfile.REGTYPE, "")))[0] == 125
    below = archive(("way", tarfile.SYMTYPE, "/tmp"), ("way/x", tarfile.REGTYPE, ""))
    assert (125, "sb: cannot copy way/x: File exists\n") == given(below)
    assert given(archive(("y", tarfile.LNKTYPE, "gone")))[0] == 125
    status, said = given(archive(("node", tarfile.CHRTYPE, ""), ("file", tarfile.REGTYPE, "")))
    assert (0, True) == (status, said.startswith("sb: warning: left out: node: "))
    status, said = given(b"no archive at all" * 100)
    assert (125, True) == (status, said.startswith("sb: cannot read the archive: "))
    assert ["C file", "A way"] == diff(sb, host)
    command = [str(SB), "cp", "-", f"box:{host}/directory/inner"]
    into_file = subprocess.run(command, env=sb.environment, input=below, capture_output=True, check=False)
    assert (125, True) == (into_file.returncode, b"not a directory" in into_file.stderr)


def test_no_archive_for_a_terminal(sb: Sandboxes, host: Path) -> None:
    """Neither is one written to it nor read from it."""
    change(sb, host, "true")
    master, slave = os.openpty()
    for words in (("box:file", "-"), ("-", "box:.")):
        done = subprocess.run(
            [SB, "cp", *words], env=sb.environment, stdin=slave, stdout=slave, stderr=subprocess.PIPE, check=False
        )
        assert (125, True) == (done.returncode, b"hint: sb cp " in done.stderr)
    os.close(master)
    os.close(slave)


def test_what_cannot_be_copied(sb: Sandboxes, host: Path) -> None:
    """Both paths here, none, or into a sandbox that runs: an error that says what to type."""
    for words in (["a", "b"], ["x:a", "y:b"]):
        failed = sb.command("cp", *words)
        assert (125, True) == (failed.returncode, "hint: sb cp NAME:PATH DST" in failed.stderr)
    run = sb.start("--name", "box", "-w", str(host), "--", "sh", "-c", "echo ready; read line")
    stdout_until(run, b"ready\n")
    failed = sb.command("cp", str(host / "file"), "box:/etc/new")
    assert failed.stderr.startswith("sb: cannot copy into box: process ")
    assert failed.stderr.endswith("hint: sb stop box\n")
