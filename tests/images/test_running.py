"""`sb run --image`: what the image's configuration says is done as docker does it, and the image stays as it is."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import CHECKOUT
from tests.images.archives import Member, archive, directory, link, symlink
from tests.sandbox.running import SB, stdout_until, tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.images.conftest import Images
    from tests.images.layouts import Layout
    from tests.images.registries import Registry


def test_the_configuration(images: Images, loaded: Callable[..., str]) -> None:
    """Variables, entrypoint, arguments, working directory; what the command line says goes first."""
    name = loaded(
        Env=["A=1", "B=2", "PATH=/bin"], Entrypoint=["sh", "-c"], Cmd=["echo $A $B; pwd"], WorkingDir="/new/dir"
    )
    assert (0, "1 2\n/new/dir\n") == (
        (done := images("--image", name, "-e", "C=3")).returncode,
        done.stdout,
    ), done.stderr
    assert "mine\n" == images.inside(name, "echo mine")
    assert "1 own\n/tmp\n" == images("--image", name, "-e", "B=own", "-w", "/tmp").stdout
    shown = images("--image", name, "--entrypoint", "env", "--hostname", "box").stdout.splitlines()
    assert {"A=1", "B=2", "PATH=/bin", "HOME=/root", "HOSTNAME=box"} == set(shown)
    assert ["X=1"] == images("--image", name, "--clearenv", "-e", "X=1", "--entrypoint", "/bin/env").stdout.splitlines()


def test_an_image_without_a_command(images: Images, loaded: Callable[..., str]) -> None:
    """It is said that there is none."""
    done = images("--image", loaded())
    assert (125, "sb: no command: the image doesn't say what to run") == (done.returncode, done.stderr.splitlines()[0])


def test_the_images_own_users(images: Images, loaded: Callable[..., str]) -> None:
    """Names come from the image's passwd and group; -u goes before the image's User. Needs subordinate ids."""
    name = loaded(archive(directory("srv", uid=33, gid=33)), User="web:more", Cmd=["id"])
    assert "uid=33(web) gid=50(more) groups=50(more)" in images("--image", name).stdout
    assert "uid=33(web) gid=33(web) groups=33(web),50(more)" in images.inside(name, "id", options=("-u", "web"))
    assert "/srv" in images.inside(name, "sh", "-c", "echo $HOME; touch /srv/mine")
    assert "uid=0(root)" in images("--image", name, "--userns", "single").stdout


def test_directories_that_the_image_lacks(images: Images, loaded: Callable[..., str]) -> None:
    """Volumes and the working directory are made; what the image has by that name stays."""
    layer = archive(directory("there", 0o700, uid=5), Member("there/f"))
    name = loaded(layer, Volumes={"/there": {}, "/data/deep": {}}, WorkingDir="/work")
    shown = images.inside(
        name, "sh", "-c", "stat -c '%n %a %u' /there /data/deep /work; ls /there; echo x >/data/deep/x"
    )
    assert ["/there 700 5", "/data/deep 755 0", "/work 755 0", "f"] == shown.splitlines()


def test_the_stop_signal(images: Images, loaded: Callable[..., str]) -> None:
    """`sb stop` sends what the image names."""
    name = loaded(StopSignal="SIGUSR1")
    script = "trap 'echo usr1; exit 7' USR1; echo ready; while :; do sleep 0.1; done"
    done = images.command("run", "--image", name, "-d", "--name", "stopped", "--", "sh", "-c", script)
    assert 0 == done.returncode, done.stderr
    import time

    deadline = time.monotonic() + 60
    while "ready" not in images.command("logs", "stopped").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert 0 == images.command("stop", "stopped").returncode
    state = json.loads(images.command("inspect", "stopped").stdout)["sandboxes"][0]
    assert ("exited", 7) == (state["status"], state["exit_code"])
    assert 0 == images.command("rm", "stopped").returncode


NAMES = ("hosts", "hostname", "resolv.conf")


def links(form: str) -> tuple[Member, ...]:
    """Symlinks in the places of the three files, each a `form` with its name filled in."""
    return tuple(symlink(f"etc/{name}", form.format(name)) for name in NAMES)


def files(where: str) -> tuple[Member, ...]:
    """The three files in a directory."""
    return tuple(Member(f"{where}/{name}", b"image") for name in NAMES)


ODD_ETC = {
    "nothing": archive(Member("x")),
    "files": archive(*files("etc")),
    "taken away": archive(*(Member(f"etc/.wh.{name}") for name in NAMES)),
    "relative": archive(*links("../run/{}"), *files("run")),
    "absolute": archive(*links("/run/{}"), *files("run")),
    "dangling": archive(*links("../run/systemd/{}")),
    "outside": archive(*links("../../../../../../etc/{}")),
    "to itself": archive(*links("{}")),
    "by magic": archive(*links("/proc/self/root/etc/{}")),
    "onto a device": archive(*links("/dev/null")),
    "etc elsewhere": archive(symlink("etc", "usr/../usr/etc"), *files("usr/etc")),
    "etc absolute": archive(symlink("etc", "/usr/etc"), *files("usr/etc")),
}


@pytest.mark.parametrize("etc", ODD_ETC)
@pytest.mark.parametrize("kernel", ["this", "old"])
def test_names_and_addresses(images: Images, loaded: Callable[..., str], etc: str, kernel: str) -> None:
    """/etc/hosts, hostname and resolv.conf are the sandbox's, whatever the image has there, and what a symlink of it
    leads to stays as it is, inside and on the host. On a kernel without openat2(2) too.
    """
    hosts = {name: os.lstat(f"/etc/{name}") for name in NAMES}
    script = "cd /etc; cat hostname hosts resolv.conf; cat /run/hosts 2>/dev/null; echo x >hosts; ls /dev"
    command = (SB, "run", "-q", "--image", loaded(ODD_ETC[etc]), "--hostname", "box", "--", "sh", "-c", script)
    under = (str(CHECKOUT / "contrib/old-kernel"),) if kernel == "old" else ()
    done = subprocess.run([*under, *command], env=images.environment, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    assert "box" == done.stdout.splitlines()[0]
    assert "127.0.1.1\tbox" in done.stdout
    assert Path("/etc/resolv.conf").read_text() in done.stdout
    assert (etc in ("relative", "absolute")) == ("image" in done.stdout)
    assert "null" in done.stdout.split()
    assert hosts == {name: os.lstat(f"/etc/{name}") for name in NAMES}


def test_names_and_addresses_are_no_changes(images: Images, loaded: Callable[..., str]) -> None:
    """What is put over the image's files is nobody's change."""
    for etc in ("nothing", "files", "dangling"):
        images.inside(loaded(ODD_ETC[etc], name=etc + ":1"), "true", options=("--name", etc, "-q"))
        assert "" == images.command("diff", etc).stdout
        images.command("rm", etc)


def everything(top: Path) -> dict[str, tuple[object, ...]]:
    """All that there is in a tree: types, modes, times, inodes, content, attributes."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        attributes = {name: os.getxattr(path, name) for name in os.listxattr(path, follow_symlinks=False)}
        found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_ino, content, attributes)
    return found


def test_the_image_stays_as_it_is(images: Images, loaded: Callable[..., str]) -> None:
    """Whatever root does in a sandbox, the layers don't change by a byte, a time or an attribute."""
    name = loaded(
        archive(directory("d", uid=3), Member("d/f", b"x", mode=0o4755), link("d/g", "d/f"), symlink("d/s", "f"))
    )
    images.inside(name, "true")  # makes what lies beneath every image
    before = everything(images.store / "layers")
    script = (
        "echo y >>/d/f; chmod 777 /d/g; chown 5:5 /d; rm /d/s /bin/ls; mkdir /new; touch /bin/busybox; cat /d/f; "
        "rm -rf /etc; find / -xdev >/dev/null; echo z >/proc/sys/kernel/hostname 2>/dev/null; mkdir /proc2"
    )
    assert 0 == images("--image", name, "--", "sh", "-c", script).returncode
    assert before == everything(images.store / "layers")


def test_pull_policies(images: Images, layout: Layout, registry: Registry, busybox: bytes) -> None:
    """Missing images are pulled, with what is pulled on stderr only; never doesn't, always asks again."""
    layout.image([busybox], "x", Cmd=["echo", "old"])
    name = registry.add(layout.path, "x", "plain/policy:1")
    never = images("--image", name, "--pull", "never")
    assert (125, f"sb: there is no image {name} here: and it may not be pulled") == (
        never.returncode,
        never.stderr.splitlines()[0],
    )
    assert (0, "old\n") == ((done := images("--image", name)).returncode, done.stdout), done.stderr
    layout.image([busybox], "y", Cmd=["echo", "new"])
    registry.add(layout.path, "y", "plain/policy:1")
    assert "old\n" == images("--image", name).stdout
    assert "new\n" == images("--image", name, "--pull", "always").stdout
    assert "new\n" == images("--image", name).stdout
    unknown = images("--image", f"{registry.host}/no/such", "true")
    assert 125 == unknown.returncode
    assert unknown.stderr.startswith("sb: there is no image")


def test_another_platforms_image(images: Images, layout: Layout, registry: Registry, busybox: bytes) -> None:
    """--platform pulls that one, though another one is here under the name."""
    own = layout.image([busybox], Cmd=["echo", "own"])
    other = layout.image([busybox], on="linux/riscv64", Cmd=["echo", "other"])
    from rootless_sb.image import platform

    layout.index({str(platform.own()): own, "linux/riscv64": other}, "x")
    name = registry.add(layout.path, "x", "plain/platform-run:1", every=True)
    assert "own\n" == images("--image", name).stdout
    assert "other\n" == images("--image", name, "--platform", "linux/riscv64").stdout


def test_words_that_look_like_images_get_a_hint(images: Images) -> None:
    """`sb run ubuntu:latest` is what people type first."""
    done = images("ubuntu:latest", "ls")
    assert (127, "hint: sb run --image ubuntu:latest ls") == (done.returncode, done.stderr.splitlines()[-1])
    assert "--image" not in images("no-such-program").stderr
    assert "they exclude each other" in images("--image", "x", "--rootfs", "/", "true").stderr
    assert "there is no --image" in images("--pull", "always", "true").stderr


def test_many_layers(images: Images, loaded: Callable[..., str]) -> None:
    """A hundred, each of which takes something away and puts something there."""
    made = [
        archive(
            Member(f"d/f{number}", str(number).encode()),
            *([Member(f"d/.wh.f{number - 2}")] if number > 1 else []),
            Member("d/same", str(number).encode(), uid=number),
            *([Member("o/.wh..wh..opq")] if number % 10 == 9 else []),
            Member(f"o/{number}"),
        )
        for number in range(100)
    ]
    shown = images.inside(loaded(*made), "sh", "-c", "ls /d /o; cat /d/same; stat -c ' %u' /d/same").split()
    assert ["/d:", "f98", "f99", "same", "/o:", "99", "99", "99"] == shown


def test_a_sandbox_is_held_by_its_image(images: Images, loaded: Callable[..., str]) -> None:
    """While one runs, prune leaves the image alone; when it has ended, it goes."""
    name = loaded()
    process = images.start("--image", name, "--", "cat")
    tell(process, "up\n")
    stdout_until(process, b"up")
    images.image("prune", "-af")
    assert 1 == len(images.ls())
    tell(process, "still here\n")
    stdout_until(process, b"still here")
    assert process.stdin is not None
    process.stdin.close()
    assert 0 == process.wait()
    images.image("prune", "-af")
    assert {} == images.ls()
