"""The sandbox's root: /dev, /proc, /sys, and nothing of the old root."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.running import python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sandbox.running import Sandboxes

NODES = {"null", "zero", "full", "random", "urandom"}
OURS = {"tty", "fd", "stdin", "stdout", "stderr", "core", "ptmx", "pts", "shm", "mqueue"}


@pytest.fixture
def shared_file() -> Iterator[str]:
    """The name of a file in the host's /dev/shm."""
    path = Path(f"/dev/shm/sb-test-{os.getpid()}")
    path.touch()
    yield path.name
    path.unlink()


def test_dev_holds_what_is_harmless(sb: Sandboxes) -> None:
    """/dev has the pseudo devices and nothing of the host's hardware."""
    names = set(sb("ls", "/dev").stdout.split())
    assert NODES <= names <= NODES | OURS


def test_devices_are_the_hosts(sb: Sandboxes) -> None:
    """null, zero, full and urandom have the numbers that they have on the host."""
    nodes = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
    expected = [f"{os.major(os.stat(node).st_rdev):x}:{os.minor(os.stat(node).st_rdev):x}" for node in nodes]
    assert expected == sb("stat", "-c", "%t:%T", *nodes).stdout.split()


def test_devices_work(sb: Sandboxes) -> None:
    """null swallows, zero and urandom give, full is full."""
    script = """
        import os
        print(os.write(os.open("/dev/null", os.O_WRONLY), b"abc"))
        print(os.read(os.open("/dev/zero", os.O_RDONLY), 3))
        print(len(set(os.read(os.open("/dev/urandom", os.O_RDONLY), 4096))) > 100)
        try:
            os.write(os.open("/dev/full", os.O_WRONLY), b"x")
        except OSError as error:
            print(error.strerror)
        """
    assert ["3", r"b'\x00\x00\x00'", "True", "No space left on device"] == python(sb, script)


def test_no_device_can_be_made(sb: Sandboxes) -> None:
    """mknod of the host's first disk or of a null device is refused, anywhere."""
    script = "for place in /dev /dev/shm /tmp /root; do mknod $place/sb-x b 8 0; mknod $place/sb-y c 1 3; done 2>&1"
    lines = sb("sh", "-c", script).stdout.splitlines()
    assert (8, 8) == (len(lines), sum("Operation not permitted" in line for line in lines))


def test_shared_memory(sb: Sandboxes, shared_file: str) -> None:
    """/dev/shm is for everybody to write to, and the host's isn't there."""
    assert "1777\n" == sb("stat", "-c", "%a", "/dev/shm").stdout
    assert "mine\n" == sb("sh", "-c", "echo mine >/dev/shm/x && cat /dev/shm/*").stdout
    assert (Path("/dev/shm") / shared_file).exists()


def test_pseudoterminals(sb: Sandboxes) -> None:
    """A pty can be opened, the first of the sandbox's own, and speaks in both directions."""
    script = """
        import os
        master, slave = os.openpty()
        print(os.ttyname(slave), sorted(os.listdir("/dev/pts")))
        os.write(master, b"typed\\n")
        print(os.read(slave, 100))
        """
    assert ["/dev/pts/0 ['0', 'ptmx']", r"b'typed\n'"] == python(sb, script)


def test_proc_is_the_sandboxs(sb: Sandboxes) -> None:
    """/proc shows pid 1, the command and no process of the host."""
    script = """
        import os
        print(open("/proc/1/comm").read().strip())
        print(*sorted((name for name in os.listdir("/proc") if name.isdigit()), key=int))
        print("1", os.readlink("/proc/self"), os.getpid() == int(os.readlink("/proc/self")))
        """
    title, listed, own = python(sb, script)
    assert ("sb-init", f"{listed} True") == (title, own)


def test_pid_1_shows_nothing_of_the_host(sb: Sandboxes) -> None:
    """The environment, memory, descriptors, root and program of pid 1, which came from outside, can't be opened.

    Those of a process in the sandbox can.
    """
    script = """
        import os
        def opened(pid):
            for name in ("environ", "mem", "maps", "root/etc", "cwd", "exe", "ns/mnt", "fd/0"):
                try:
                    os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_NONBLOCK))
                except PermissionError:
                    continue
                yield name
        print(*opened(1))
        print(len(list(opened(os.getpid()))))
        """
    assert ["", "8"] == python(sb, script)


def test_sys_cannot_be_written(sb: Sandboxes) -> None:
    """/sys is read-only or empty."""
    script = "ls -A /sys | wc -l; touch /sys/x 2>/dev/null; echo $?; cut -d' ' -f5 /proc/self/mountinfo | grep -cx /sys"
    entries, touched, mounts = map(int, sb("sh", "-c", script).stdout.split())
    assert (0, 0) == (entries, mounts) or (1, 1) == (touched, mounts)


def test_mounts_are_the_sandboxs_own(sb: Sandboxes) -> None:
    """One overlay is the root, and beyond the mounts of sb's own there is none: nothing is left of the old root.

    What is mounted below /proc and /sys is a part of it that was made read-only, or a mask.
    """
    fields = [line.split() for line in sb("cat", "/proc/self/mountinfo").stdout.splitlines()]
    kinds = {each[4]: each[each.index("-") + 1] for each in fields}
    assert len(fields) == len(kinds)
    assert ("fuse", "proc", "tmpfs") == (kinds.pop("/"), kinds.pop("/proc"), kinds.pop("/dev"))
    parts = {each[4]: each for each in fields if each[4].startswith(("/proc/", "/sys/"))}
    masks = {place for place, each in parts.items() if each[3] in ("/empty", "/blank") and kinds[place] == "tmpfs"}
    assert [] == [each for each in parts.values() if "ro" not in each[5].split(",")]
    assert {"proc"} == {kinds[place] for place in parts if place not in masks}
    expected = {"/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/etc/hostname", "/etc/hosts"}
    assert set(kinds) - set(parts) - {f"/dev/{name}" for name in NODES | {"tty"}} <= expected
    assert [] == [each for each in fields if any(word.startswith(("shared:", "master:")) for word in each)]


def test_root_cannot_be_left(sb: Sandboxes) -> None:
    """The classic way out of a chroot leads back to the sandbox's root."""
    script = """
        import os
        os.mkdir("/tmp/jail")
        os.chroot("/tmp/jail")
        for _ in range(100):
            os.chdir("..")
        os.chroot(".")
        print(os.readlink("/proc/self/root"), "sb-init" in open("/proc/1/comm").read())
        """
    assert ["/ True"] == python(sb, script)


def test_hostname(sb: Sandboxes, program: Callable[[str], Path]) -> None:
    """The host name is the sandbox's id; it resolves, `hostname -f` too, and stands in /etc/hostname."""
    program("hostname")
    script = "hostname; hostname -f; cat /etc/hostname; uname -n; getent hosts $(hostname)"
    own, full, written, kernels, address, *names = sb("sh", "-c", script).stdout.split()
    assert (12, True) == (len(own), set(own) <= set("0123456789abcdef"))
    assert [own] * 4 == [full, written, kernels, names[0]]
    assert "127.0.1.1" == address
    assert own != os.uname().nodename


def test_hostname_can_be_chosen(sb: Sandboxes) -> None:
    """--hostname names the sandbox, in all these places."""
    script = "uname -n; cat /etc/hostname; getent hosts box"
    result = sb("--hostname", "box", "sh", "-c", script)
    assert ["box", "box", "127.0.1.1", "box"] == result.stdout.split()


def test_the_hosts_own_name(sb: Sandboxes) -> None:
    """--uts host: its namespace and name, in /etc/hostname too, by the variable as well; nobody inside can change it.
    (Where a namespace of the sandbox's own is made inside, it can be.)
    """
    name = os.uname().nodename
    look = "readlink /proc/self/ns/uts; uname -n; cat /etc/hostname"
    expected = [os.readlink("/proc/self/ns/uts"), name, name]
    assert expected == sb("--uts", "host", "sh", "-c", look).stdout.split()
    assert expected == sb("sh", "-c", look, variables={"SB_UTS": "host"}).stdout.split()
    assert name not in sb("--uts", "private", "sh", "-c", look, variables={"SB_UTS": "host"}).stdout.split()
    rename = "import ctypes; libc = ctypes.CDLL(None, use_errno=True); libc.sethostname(b'other', 5)"
    told = [sys.executable, "-I", "-c", f"{rename}; print(ctypes.get_errno())"]
    for options in (("--uts", "host"), ("--uts", "host", "--nested")):
        assert f"{errno.EPERM}\n" == sb("-q", *options, "--", *told).stdout
    assert "0\n" == sb("-q", "--uts", "host", "--nested", "--", "unshare", "--uts", *told).stdout
    assert name == os.uname().nodename


def test_a_name_of_its_own_and_the_hosts(sb: Sandboxes) -> None:
    """--hostname and --uts host contradict each other."""
    refused = sb("--uts", "host", "--hostname", "box", "true")
    assert (125, True) == (refused.returncode, "hint: leave one of them out" in refused.stderr)


def test_namespaces_are_new(sb: Sandboxes) -> None:
    """None of the namespaces is the host's, but for the one of clocks."""
    kinds = ("user", "mnt", "pid", "net", "uts", "ipc", "cgroup")
    links = [f"/proc/self/ns/{kind}" for kind in kinds]
    inside = sb("readlink", *links).stdout.split()
    outside = subprocess.run(["readlink", *links], capture_output=True, text=True, check=True).stdout.split()
    assert (7, set()) == (len(inside), set(inside) & set(outside))
