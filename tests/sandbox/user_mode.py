"""Runs commands in a User-mode Linux: a kernel as a process of this user's, with control groups that this one may lack.

Its root is this machine's tree; /var/tmp and /run are its own. There the user has a part of the hierarchy of control
groups, as an administrator or systemd gives it: GROUP, in whose `shell` the commands are.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GROUP = f"/sys/fs/cgroup/user.slice/user-{os.getuid()}.slice"
PATIENCE = 300.0  # seconds for what takes some ten, so that a hang is a failure

_MACHINE = (
    *("setpriv", "--pdeathsig", "TERM"),  # killed test runs take it along; by KILL its helpers would stay
    *("linux.uml", "mem=1G", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", "umid=machine"),
    *("quiet", "loglevel=0", "con=null", "con0=null,fd:1"),
)
# Run as the machine's init. $1: the script that the user runs, $2: their id.
INIT = """#!/bin/sh
PATH=/usr/bin:/bin:/usr/sbin:/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts; mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /var/tmp; mount -t tmpfs -o mode=755 tmpfs /run
busybox insmod "$(echo /usr/lib/uml/modules/*/kernel/fs/fuse/fuse.ko)"; chmod 666 /dev/fuse
ip link set lo up
mkdir -p /run/systemd/system "/run/user/$2"; chown "$2" "/run/user/$2"
mount -t cgroup2 none /sys/fs/cgroup
echo '+memory +pids +cpu' >/sys/fs/cgroup/cgroup.subtree_control
cd /sys/fs/cgroup; mkdir user.slice; echo '+memory +pids +cpu' >user.slice/cgroup.subtree_control
cd user.slice; mkdir "user-$2.slice"; cd "user-$2.slice"; echo '+memory +pids +cpu' >cgroup.subtree_control
mkdir shell manager; chown -R "$2" .
echo $$ >shell/cgroup.procs
cd /
setpriv --reuid "$2" --regid "$2" --clear-groups --inh-caps=-all -- env -i PATH="$PATH" HOME=/var/tmp LANG=C.UTF-8 \\
    XDG_RUNTIME_DIR="/run/user/$2" SB_ALLOW_DEGRADED=landlock sh "$1" </dev/null
echo everything was run
busybox poweroff -f
"""
# The user's systemd, as user@.service would start it. It listens when its socket is there.
MANAGER = """
(echo 0 >GROUP/manager/cgroup.procs; exec /lib/systemd/systemd --user) >/dev/null 2>&1 &
while ! systemctl --user is-active -q basic.target 2>/dev/null; do sleep 0.1; done
"""


def run(
    place: Path, commands: Mapping[str, Sequence[str]], *, manager: bool = False
) -> dict[str, subprocess.CompletedProcess[str]]:
    """Boot, run the commands one after another, and power off; how each has ended, by its name.

    `place`: a directory for this. `manager`: the user has a systemd.
    """
    if manager and shutil.which("systemctl") is None:
        pytest.skip("systemd isn't installed")
    lines = [MANAGER.replace("GROUP", GROUP) if manager else ""]
    for name, words in commands.items():
        result = shlex.quote(str(place / name))
        lines.append(f"{shlex.join(words)} >{result}.out 2>{result}.err; echo $? >{result}.code")
    (place / "script").write_text("\n".join(lines))
    (place / "init").write_text(INIT.replace("$1", str(place / "script")).replace("$2", str(os.getuid())))
    (place / "init").chmod(0o755)
    _boot(place)
    found = {}
    for name, words in commands.items():
        code, output, errors = ((place / f"{name}.{kind}").read_text() for kind in ("code", "out", "err"))
        found[name] = subprocess.CompletedProcess(words, int(code), output, errors)
    return found


def _boot(place: Path) -> None:
    if shutil.which("linux.uml") is None:
        pytest.skip("linux.uml (Debian's user-mode-linux) isn't installed")
    if shutil.which("gcc") is None:
        pytest.skip("gcc isn't installed")
    library = place / "whole_xstate.so"
    source = Path(__file__).with_name("whole_xstate.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
    machine = subprocess.Popen(
        [*_MACHINE, f"init={place}/init", f"uml_dir={place}"],
        env={**os.environ, "LD_PRELOAD": str(library)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = machine.communicate(timeout=PATIENCE)
    finally:
        if machine.returncode is None:
            os.killpg(machine.pid, signal.SIGKILL)
            machine.wait()
    assert b"everything was run" in output, output.decode(errors="replace")
