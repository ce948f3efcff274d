"""podman, rootless and the distribution's own, with `fuse-overlay` as its overlay.mount_program."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

FUSE_OVERLAY = Path(sys.executable).parent / "fuse-overlay"
PATIENCE = 60.0
APPLETS = ("sh", "cat", "chmod", "chown", "echo", "find", "ln", "ls", "mkdir", "mv", "rm", "sleep", "stat")
DIRECTORIES = ("bin", "dev", "etc", "proc", "run", "sys", "tmp", "var", "home")
CONTAINERFILE = """\
FROM scratch
COPY root/ /
RUN echo built >/etc/built && mv /doomed /etc/moved && rm /etc/file && ln -s moved /etc/link
RUN mkdir /etc/file && chown 7:8 /etc/moved && chmod 4711 /bin/busybox
RUN mkdir /home/ann && chown 1000:1000 /home/ann && chmod 2755 /home/ann
RUN rm -r /etc/moved/a && mv /etc/moved /etc/again
"""
# Without a cgroup of its own that it may write to, podman can't make one for a container.
UNLIMITED = ("--network", "none", "--cgroups=disabled")


class Podman:
    """podman with a store of its own."""

    def __init__(self, place: Path, mount_program: str) -> None:
        self.place = place
        self._command = (
            *("podman", "--root", str(place / "store"), "--runroot", str(place / "run")),
            *("--storage-driver", "overlay", "--storage-opt", f"overlay.mount_program={mount_program}"),
        )

    def __call__(self, *arguments: str, check: bool = True) -> str:
        """Run a command of podman's; its stdout is returned."""
        done = subprocess.run((*self._command, *arguments), capture_output=True, text=True, check=False, timeout=300)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def run(self, image: str, *command: str) -> str:
        """Run a command in a new container; its stdout is returned."""
        return self("run", "--rm", *UNLIMITED, image, *command)

    def servers(self) -> list[int]:
        """The processes that serve this store's mounts."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            except OSError:
                continue  # it has ended
            is_server = any(os.path.basename(word) == b"fuse-overlay" for word in words[:3])  # python -I fuse-overlay
            if is_server and any(os.fsencode(self.place) in word for word in words):
                found.append(int(entry.name))
        return found

    def wait_for_servers_end(self) -> None:
        """Every server must go when its mount has gone."""
        deadline = time.monotonic() + PATIENCE
        while self.servers():
            assert time.monotonic() < deadline, "a server is left"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """podman on our overlay, with an image `base` built there."""
    for program in ("podman", "crun", "busybox", "newuidmap"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} isn't installed")
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        pytest.skip("/sys/fs/cgroup isn't the unified hierarchy (cgroup2), which crun asks for")
    place = tmp_path_factory.mktemp("podman")
    made = Podman(place, str(FUSE_OVERLAY))
    mask = os.umask(0o022)
    make_root(place / "context" / "root")
    os.umask(mask)
    (place / "context" / "Containerfile").write_text(CONTAINERFILE)
    made("build", "--network", "none", "--cgroupns", "host", "-t", "base", str(place / "context"))
    yield made
    subprocess.run(["podman", "unshare", "rm", "-rf", str(place)], check=True, capture_output=True)


@pytest.fixture
def podman(store: Podman) -> Iterator[Podman]:
    """That podman; no container and no server may be left at the end."""
    yield store
    store("rm", "--all", "--force", "--time", "0", check=False)
    store.wait_for_servers_end()


def make_root(root: Path) -> None:
    """A root file system with busybox in it."""
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy2(busybox, root / "bin/busybox")
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/file").write_text("a file first, a directory later\n")
    (root / "doomed/a/b").mkdir(parents=True)
    (root / "doomed/f").write_text("f")


def test_an_image_is_built_and_run(podman: Podman) -> None:
    """What each step of a Containerfile has changed, is there in a container: owners, modes, removals, renames."""
    script = """
    cat /etc/built; stat -c '%u:%g %a %F' /etc/file /etc/again /bin/busybox /home/ann; ls /etc/again
    ls -d /doomed /etc/moved 2>/dev/null; cat /etc/link 2>/dev/null
    echo new >/etc/again/new; rm /etc/built; ls /etc/again
    """
    assert [
        "built",
        "0:0 755 directory",
        "7:8 755 directory",
        "0:0 4711 regular file",
        "1000:1000 2755 directory",
        "f",
        "f",
        "new",
    ] == podman.run("base", "sh", "-c", script).splitlines()
    assert "built\n" == podman.run("base", "cat", "/etc/built")  # each container has a layer of its own


def test_a_container_is_changed_and_committed(podman: Podman) -> None:
    """podman exec, diff, cp and commit see what a running container has changed; so does the new image."""
    podman("run", "-d", "--name", "work", *UNLIMITED, "base", "sleep", "1000")
    podman("exec", "work", "sh", "-c", "echo 1 >/var/new; chown 3:4 /var/new; rm -r /etc/again; mkdir /etc/again")
    assert {"A /var/new", "D /etc/again/f"} <= set(podman("diff", "work").splitlines())
    podman("cp", "work:/var/new", str(podman.place / "copy"))
    assert "1\n" == (podman.place / "copy").read_text()
    podman("commit", "-q", "work", "changed")
    podman("kill", "work")
    assert "3:4\n" == podman.run("changed", "stat", "-c", "%u:%g", "/var/new")
    assert "" == podman.run("changed", "ls", "/etc/again")


def test_a_stopped_container_starts_again(podman: Podman) -> None:
    """Its changes are there after its overlay was unmounted and mounted again."""
    podman("run", "--name", "work", *UNLIMITED, "base", "sh", "-c", "echo x >>/var/count; cat /var/count")
    podman.wait_for_servers_end()
    assert "x\nx\n" == podman("start", "--attach", "work")


def test_the_server_is_told_to_end(podman: Podman) -> None:
    """SIGTERM to the server of a running container ends it; podman cleans up, and what was written stays."""
    podman("run", "-d", "--name", "work", *UNLIMITED, "base", "sh", "-c", "echo done >/var/x; sleep 1000")
    deadline = time.monotonic() + PATIENCE
    while "done\n" != podman("exec", "work", "cat", "/var/x", check=False):
        assert time.monotonic() < deadline
    servers = podman.servers()
    assert servers
    for pid in servers:
        os.kill(pid, signal.SIGTERM)
    podman.wait_for_servers_end()
    podman("kill", "work", check=False)
    podman("wait", "work")
    podman("commit", "-q", "work", "rescued")
    assert "done\n" == podman.run("rescued", "cat", "/var/x")


def compared(listing: str) -> list[str]:
    """The lines of a listing but those of directories, whose size is the file system's, and what podman writes anew."""
    written = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab")
    return sorted(line for line in listing.splitlines() if not line.startswith(written) and " directory " not in line)


def test_fuse_overlayfs_reads_what_was_built(podman: Podman) -> None:
    """The same store with Debian's fuse-overlayfs: the image built on ours says the same there."""
    program = shutil.which("fuse-overlayfs")
    if program is None:
        pytest.skip("fuse-overlayfs isn't installed")
    script = "find /etc /home /bin/busybox -exec stat -c '%n %u:%g %a %F %s' {} +"
    ours = podman.run("base", "sh", "-c", script)
    theirs = Podman(podman.place, program).run("base", "sh", "-c", script)
    assert compared(ours) == compared(theirs)
    assert 5 < len(compared(ours))
