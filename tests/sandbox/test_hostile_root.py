"""Root file systems that are traps: what sb puts into them lands nowhere else, and nothing of theirs runs in pid 1."""

from __future__ import annotations

import encodings
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rootless_sb
from rootless_sb.kernel import mounts
from tests.sandbox.running import PATIENCE, eventually, listed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.running import Sandboxes


@pytest.fixture
def tree(tmp_path: Path, program: Callable[[str], Path]) -> Path:
    """A root file system with busybox in it."""
    root = tmp_path / "root"
    for name in ("bin", "etc", "tmp", "usr"):
        (root / name).mkdir(parents=True)
    shutil.copy(program("busybox"), root / "bin" / "busybox")
    for name in ("sh", "ls", "cat", "mount", "id", "grep"):
        (root / "bin" / name).symlink_to("busybox")
    return root


def test_a_plain_tree_runs(sb: Sandboxes, tree: Path) -> None:
    """The control: without a trap the tree works, and has the /proc and /dev that it lacked."""
    done = sb("-q", "--rootfs", str(tree), "sh", "-c", "id -u; ls /dev/null; ls /proc/self/fd >/dev/null && echo proc")
    assert "0\n/dev/null\nproc\n" == done.stdout


@pytest.mark.parametrize("link", ["sys", "dev", "proc"])
@pytest.mark.parametrize("target", ["/dev", "/proc", "/etc", "../../../../etc", "/tmp/gone"])
def test_a_symlink_in_a_mounts_place(sb: Sandboxes, tree: Path, tmp_path: Path, link: str, target: str) -> None:
    """A mount whose place is a symlink stays inside: the sandbox runs, or is refused in one line."""
    (tree / link).symlink_to(target)
    done = sb("-q", "--rootfs", str(tree), "sh", "-c", "echo ran")
    if done.returncode:
        assert 125 == done.returncode
        assert done.stderr.startswith("sb: cannot mount /")
        assert "internal error" not in done.stderr
    else:
        assert "ran\n" == done.stdout
    assert {"bin", "etc", "tmp", "usr", link} == {path.name for path in tree.iterdir()}
    assert not (tmp_path / "etc").exists()


def test_a_symlink_for_proc_lifts_no_limit(sb: Sandboxes, tree: Path) -> None:
    """Memory is counted through the sandbox's /proc: a root that would have it elsewhere is refused."""
    command = ("-q", "--memory", "50m", "--rootfs", str(tree), "/bin/busybox", "dd", "if=/dev/zero", "of=/dev/null")
    assert 137 == sb(*command, "bs=200M").returncode
    (tree / "proc").symlink_to("etc")
    assert 125 == sb(*command, "bs=200M", "count=50").returncode


@pytest.mark.parametrize("name", ["hosts", "hostname"])
def test_a_trap_in_the_place_of_a_file(sb: Sandboxes, tree: Path, name: str) -> None:
    """/etc/hosts as a directory is left alone; a loop or a way out of the tree is covered, and leads nowhere."""
    place = tree / "etc" / name
    command = ("-q", "--hostname", "box", "--rootfs", str(tree), "sh", "-c")
    place.mkdir()
    assert "ran\n" == sb(*command, "echo ran").stdout
    place.rmdir()
    for target in (name, "../../../../etc/passwd", "/proc/self/maps"):
        place.symlink_to(target)
        assert "box\n" == sb(*command, f"grep -ow box /etc/{name}").stdout
        place.unlink()


WAYS = (
    *("f", "/f", "d/../f", "../../f", "d/up/f", "d/absolute/f", "chain/f", "loop", "dangling", "f/", "f/.."),
    *("d/none/f", "d//./up/d/up/./f", "out"),
)


def test_a_walk_leads_where_the_kernels_does(tmp_path: Path) -> None:
    """Without openat2(2) each path and symlink means the same file of the tree, or the same error."""
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (root / "f").write_text("inside")
    (tmp_path / "f").write_text("outside")
    for name, text in (("d/up", ".."), ("d/absolute", "/"), ("chain", "d/up/d/absolute"), ("loop", "loop")):
        (root / name).symlink_to(text)
    (root / "dangling").symlink_to("/none")
    (root / "out").symlink_to("../../../f")
    top = os.open(root, os.O_PATH)

    def found(look: Callable[[int, str], int], way: str) -> object:
        try:
            descriptor = look(top, way)
        except OSError as error:
            return error.errno
        try:
            return os.fstat(descriptor).st_ino
        finally:
            os.close(descriptor)

    before = len(os.listdir("/proc/self/fd"))
    expected = {way: found(mounts.open_in_root, way) for way in WAYS}
    assert expected == {way: found(mounts.walk_in_root, way) for way in WAYS}
    assert (root / "f").stat().st_ino == expected["out"]
    assert before == len(os.listdir("/proc/self/fd"))
    os.close(top)




def test_no_source_of_ours_is_read_from_the_tree(sb: Sandboxes, tree: Path) -> None:
    """A tree that holds poisoned copies of sb's own modules, and makes pid 1 fail, has none of them run.

    (Python's traceback would read the sources by their paths, and import the codec that their first line names.)
    """
    package = Path(rootless_sb.__file__).parent
    for source in package.rglob("*.py"):
        copy = tree / str(source).lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text("# coding: evil\n")
    codecs = tree / str(Path(encodings.__file__).parent).lstrip("/")
    codecs.mkdir(parents=True)
    (codecs / "evil.py").write_text("import os; os.write(2, b'EVIL')\n")
    (tree / "sys").symlink_to("/dev")
    done = sb("-q", "--rootfs", str(tree), "sh", "-c", "echo ran; echo >/dev/null")
    assert (0, "ran\n", "") == (done.returncode, done.stdout, done.stderr)


def test_device_nodes_of_the_host_keep_their_modes(sb: Sandboxes) -> None:
    """The sandbox's root can't change the mode of /dev/null; it can change that of a file of its own."""
    done = sb("-q", "--", "sh", "-c", "chmod 600 /dev/null; echo $?; touch /tmp/sb-x; chmod 600 /tmp/sb-x; echo $?")
    assert "1\n0\n" == done.stdout
    assert 0o666 == stat.S_IMODE(Path("/dev/null").stat().st_mode)


def test_the_kernels_settings_cannot_be_written(sb: Sandboxes) -> None:
    """/proc/sys is read-only, whoever called sb; /proc itself is not."""
    script = "echo core >/proc/sys/kernel/core_pattern || echo refused; echo 0 >/proc/self/oom_score_adj && echo fine"
    assert "refused\nfine\n" == sb("-q", "--", "sh", "-c", script).stdout


def descriptors_of_pid_1(sb: Sandboxes, tree: Path) -> int:
    """How many descriptors pid 1 of a sandbox on this tree has."""
    run = sb.start("-q", "--rootfs", str(tree), "sh", "-c", "read line")
    eventually(lambda: [each["status"] for each in listed(sb)] == ["running"])
    count = len(os.listdir(f"/proc/{listed(sb)[0]['pid']}/fd"))
    run.communicate(timeout=PATIENCE)
    return count


def test_a_mount_that_is_left_out_leaves_nothing_open(sb: Sandboxes, tree: Path) -> None:
    """pid 1 has no descriptor more where files to mount on are missing, or where they are traps."""
    missing = descriptors_of_pid_1(sb, tree)
    (tree / "etc/hosts").mkdir()
    trap = descriptors_of_pid_1(sb, tree)
    (tree / "etc/hosts").rmdir()
    for name in ("hosts", "hostname"):
        (tree / "etc" / name).touch()
    assert [descriptors_of_pid_1(sb, tree)] * 2 == [missing, trap]
