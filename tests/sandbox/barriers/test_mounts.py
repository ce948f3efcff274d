"""Attack: undoing what sb has mounted. Barriers: mounts belong to the outer user namespace; seccomp; Landlock."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sandbox import processes
from tests.sandbox.running import SB, stdout_until

if TYPE_CHECKING:
    from tests.sandbox.barriers.attackers import Attacker
    from tests.sandbox.running import Sandboxes

# Unmounts, makes writable and moves what sb has mounted; MS_REMOUNT | MS_BIND, MS_MOVE, MNT_DETACH.
UNDO = """
    def mount(source, target, flags, kind=None):
        if libc.mount(source, target, kind, ctypes.c_ulong(flags), None) == -1:
            raise OSError(ctypes.get_errno(), "")
    def umount(target, flags):
        if libc.umount2(target, flags) == -1:
            raise OSError(ctypes.get_errno(), "")
    def undo():
        for place in (b"/proc/sys", b"/proc/keys", b"/proc", b"/dev/null", b"/dev", b"/etc/hosts", b"/"):
            yield outcome(umount, place, 0)
            yield outcome(umount, place, 2)
            yield outcome(mount, None, place, 32 | 4096)
        yield outcome(mount, b"/proc", b"/mnt", 8192)
    """
WITHOUT_SECCOMP = ("--seccomp=unconfined", "--allow-degraded=landlock")
REFUSED = {"EPERM", "EINVAL", "EACCES"}  # EINVAL: a mount that is locked (mount_namespaces(7))


def test_as_root(attacker: Attacker) -> None:
    """Nothing is undone, as root of the sandbox, and without seccomp and Landlock neither."""
    script = f"{UNDO}print(*undo())"
    assert {"EPERM"} == set(attacker(script)[0].split())
    assert {"EPERM"} == set(attacker(script, *WITHOUT_SECCOMP)[0].split())


def test_in_namespaces_of_its_own(attacker: Attacker) -> None:
    """Neither in a mount namespace of root's own, where it can be made; a mount that it makes there can be undone."""
    own = f"""{UNDO}
    if libc.unshare(0x10000000 | 0x20000) == -1:
        print("refused", errno.errorcode[ctypes.get_errno()])
    else:
        ended = set(undo())
        print(ended - {REFUSED!r}, outcome(mount, b"none", b"/mnt", 0, b"tmpfs"), outcome(umount, b"/mnt", 0))
    """
    assert ["refused EPERM"] == attacker(own)
    assert ["set() done done"] == attacker(own, *WITHOUT_SECCOMP)
    assert ["set() done done"] == attacker(own, "--nested")


def test_mounts_do_not_spread_outwards(sb: Sandboxes) -> None:
    """A mount made inside, where that is allowed, isn't there outside; inside it is."""
    script = "mount -t tmpfs sb-spread /mnt && grep -c sb-spread /proc/self/mounts; echo ready; read line"
    run = sb.start("-q", "--nested", "--", "sh", "-c", script)
    assert b"1\nready\n" == stdout_until(run, b"ready\n")
    assert "sb-spread" not in Path("/proc/self/mounts").read_text()
    by_name = {each.name: each.pid for each in processes.descendants(run.pid)}
    for name, spread in (("sb-watch", False), ("sb-overlay", False), ("sh", True)):
        assert spread == ("sb-spread" in Path(f"/proc/{by_name[name]}/mounts").read_text()), name
    run.communicate(b"\n", timeout=60)


def test_mounts_do_not_spread_inwards(sb: Sandboxes) -> None:
    """A mount that the caller makes meanwhile in the namespace that sb was started in isn't there inside."""
    script = """
        "$0" run -q -- sh -c 'echo ready; read line; grep -c sb-late /proc/self/mounts' <"$1/go" >"$1/out" &
        exec 3>"$1/go"
        until grep -q ready "$1/out"; do sleep 0.05; done
        mount -t tmpfs sb-late /mnt && echo >&3
        wait; grep -c sb-late /proc/self/mounts >>"$1/out"
        """
    place = Path(sb.environment["SLURM_TMPDIR"])
    os.mkfifo(place / "go")
    command = ["unshare", "-Urm", "--propagation", "shared", "sh", "-c", script, str(SB), str(place)]
    subprocess.run(command, env=sb.environment, check=True, timeout=60)
    assert ["ready", "0", "1"] == (place / "out").read_text().split()
    for name in ("go", "out"):
        (place / name).unlink()
