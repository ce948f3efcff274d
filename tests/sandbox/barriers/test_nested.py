"""--nested: sandboxes inside a sandbox, and what it says that it opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox.barriers.attackers import outside
from tests.sandbox.running import PATIENCE, SB, stdout_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox.running import Sandboxes

_SYS_OPEN_TREE = 428  # on every architecture
PODMAN = """
    set -e
    mkdir -p /tmp/root/bin
    cp "$1" /tmp/root/bin/busybox
    store="--root /dev/shm/store --runroot /dev/shm/run --storage-driver vfs"
    tar -C /tmp/root -c . | podman $store import - sb-nested >/dev/null 2>&1
    podman $store run --rm --network none --cgroups=disabled sb-nested /bin/busybox id -u
    """


def test_it_says_what_it_opens(sb: Sandboxes) -> None:
    """In a line at the start, unless -q."""
    assert "--nested: the sandbox may make namespaces and mounts" in sb("--nested", "true").stderr
    assert "" == sb("-q", "--nested", "true").stderr


def test_namespaces_and_mounts(sb: Sandboxes) -> None:
    """Root mounts and unmounts in the sandbox itself, and makes any namespace; without --nested neither."""
    script = "mount -t tmpfs none /mnt && umount /mnt && unshare -Umpnuif --mount-proc true && echo done"
    assert "done\n" == sb("-q", "--nested", "sh", "-c", script).stdout
    assert "" == sb("-q", "sh", "-c", script).stdout


def test_exec_shares_its_mounts(sb: Sandboxes) -> None:
    """What the command has mounted `sb exec` sees, and the other way round."""
    script = "mount -t tmpfs none /mnt; echo first >/mnt/a; echo ready; read line; cat /mnt/b"
    box = sb.start("-q", "--nested", "--name", "box", "--rm", "--", "sh", "-c", script)
    stdout_until(box, b"ready\n")
    script = "cat /mnt/a; echo second >/mnt/b; mount -t tmpfs none /srv && echo done"
    done = sb.command("exec", "box", "sh", "-c", script)
    assert "first\ndone\n" == done.stdout, done.stderr
    assert b"second\n" == box.communicate(b"\n", timeout=PATIENCE)[0]


def test_bubblewrap(sb: Sandboxes, program: Callable[[str], Path]) -> None:
    """bwrap runs inside, with a /proc and a /dev of its own."""
    bwrap = str(program("bwrap"))
    command = (bwrap, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "echo", "bubble")
    assert "bubble\n" == sb("-q", "--nested", "--", *command).stdout
    assert "" == sb("-q", "--", *command).stdout
    assert "bubble\n" == sb("-q", "--nested", "--userns=keep-id", "--", *command).stdout


def test_sb_itself(sb: Sandboxes) -> None:
    """sb runs inside sb, and what it changes is gone when it ends."""
    innermost = "echo x >/etc/nested; cat /etc/nested; cat /proc/1/comm"
    inner = f"{SB} run -q -- sh -c '{innermost}'; ls /etc/nested 2>&1 | wc -l"
    environment = ("-e", "SLURM_TMPDIR=/dev/shm")
    done = sb("-q", "--nested", *environment, "sh", "-c", inner)
    assert ["x", "sb-init", "1"] == done.stdout.split(), done.stderr
    assert 125 == sb("-q", *environment, "--", str(SB), "run", "-q", "--", "true").returncode


def test_podman(sb: Sandboxes, program: Callable[[str], Path]) -> None:
    """podman makes an image and runs a container inside."""
    for name in ("podman", "crun"):
        program(name)
    if outside(f"print(outcome(call, {_SYS_OPEN_TREE}, 2**64 - 1, b'/', 0))") == ["ENOSYS"]:
        pytest.skip("crun mounts by open_tree, which this kernel hasn't got")
    done = sb("-q", "--nested", "sh", "-c", PODMAN, "sh", str(program("busybox")))
    assert "0\n" == done.stdout, done.stderr
