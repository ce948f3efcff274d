"""The second line: Landlock holds a sandbox to its root, and the overlay server to the sandbox's own directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rootless_sb
from tests.sandbox.barriers.attackers import outside, require_landlock

if TYPE_CHECKING:
    from tests.sandbox.barriers.attackers import Attacker

# Reach for what lies outside a domain; the same acts before it is entered are the control.
REACH = f"""
    sys.path.insert(0, {str(Path(rootless_sb.__file__).parents[1])!r})
    import socket
    from rootless_sb.kernel import landlock as kernel, processes
    from rootless_sb.security import landlock
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\\0sb-test-" + str(os.getpid()))
    listener.listen()
    parent = os.getpid()
    def write(path):
        with open(path, "w") as file:
            file.write("x")
    def connect():
        socket.socket(socket.AF_UNIX).connect(listener.getsockname())
    def execute():
        pid = os.fork()
        if not pid:
            try:
                os.execv("/bin/true", ["true"])
            except OSError as error:
                os._exit(error.errno)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status:
            raise OSError(status, "")
    def move():
        os.rename(f"{{place}}/own/a/file", f"{{place}}/own/b/file")
        os.rename(f"{{place}}/own/b/file", f"{{place}}/own/a/file")
    def acts():
        return [outcome(*act) for act in (
            (os.kill, parent, 0), (connect,), (open, "/etc/passwd"), (write, f"{{place}}/other"), (execute,),
            (write, f"{{place}}/own/a/file"), (move,),
        )]
    def enter_and_act(domain):
        pid = os.fork()
        if not pid:
            processes.forbid_new_privileges()
            kernel.restrict(*domain, beneath=f"{{place}}/own")
            print(*acts(), flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
    os.makedirs(f"{{place}}/own/a"); os.makedirs(f"{{place}}/own/b")
    print(*acts(), flush=True)
    version = kernel.version()
    """


def test_the_domain_of_a_sandbox(tmp_path: Path) -> None:
    """It reads, writes and executes nothing outside its root, signals nobody and connects to no abstract socket."""
    require_landlock(6)
    script = f"    place = {str(tmp_path)!r}{REACH}enter_and_act(landlock.target(version, nested=False))"
    assert ["done " * 6 + "done", "EPERM EPERM EACCES EACCES EACCES done done"] == outside(script)


def test_the_domain_of_the_overlay_server(tmp_path: Path) -> None:
    """It reads anything, and writes and renames in its own directory, nowhere else; it executes nothing."""
    require_landlock(6)
    script = f"    place = {str(tmp_path)!r}{REACH}enter_and_act(landlock.overlay_server(version))"
    assert ["done " * 6 + "done", "EPERM EPERM done EACCES EACCES done done"] == outside(script)


MOUNT = """
    import subprocess
    script = "echo made; mount -t tmpfs none /mnt 2>/dev/null && echo mounted"
    done = subprocess.run(["unshare", "-Urm", "--propagation", "unchanged", "sh", "-c", script],
                          stdout=subprocess.PIPE, text=True)
    print(*done.stdout.split())
    """


def test_it_stands_behind_the_first_line(attacker: Attacker) -> None:
    """With seccomp out of the way, a mount in a namespace of its own still fails; with Landlock given up it works."""
    require_landlock(2)
    assert ["made"] == attacker(MOUNT, "--seccomp=unconfined")
    assert ["made mounted"] == attacker(MOUNT, "--seccomp=unconfined", "--allow-degraded=landlock")
