"""Attack: setuid bits, file capabilities and device nodes that lie in a layer. Barriers: no_new_privs, nodev, B."""

from __future__ import annotations

import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.barriers.attackers import outside

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox.barriers.attackers import Attacker
    from tests.sandbox.running import Sandboxes

SHOW = r"""
#include <stdio.h>
#include <unistd.h>
int main(void) { printf("%d\n", geteuid()); return 0; }
"""
# Makes the program root's and setuid, and executes it as another user.
SETUID = """
    import shutil, subprocess
    shutil.copy(sys.argv[1], "/usr/local/bin/show")
    os.chown("/usr/local/bin/show", 0, 0)
    os.chmod("/usr/local/bin/show", 0o4755)
    print(oct(os.stat("/usr/local/bin/show").st_mode), flush=True)
    def drop():
        os.setgid(1234); os.setuid(1234)
    subprocess.run(["/usr/local/bin/show"], preexec_fn=drop)
    """
WITHOUT_NO_NEW_PRIVS = ("--allow-degraded=no_new_privs", "--allow-degraded=seccomp", "--allow-degraded=landlock")


@pytest.fixture
def show(tmp_path: Path, program: Callable[[str], Path]) -> Path:
    """A program that prints its effective user id."""
    (tmp_path / "show.c").write_text(SHOW)
    subprocess.run([program("gcc"), "-o", tmp_path / "show", tmp_path / "show.c"], check=True)
    return tmp_path / "show"


def test_a_setuid_bit_has_no_effect(attacker: Attacker, show: Path) -> None:
    """A program that is root's and setuid runs as who executes it; with no_new_privs given up it is root's."""
    script = SETUID.replace("sys.argv[1]", repr(str(show)))
    assert ["0o104755", "1234"] == attacker(script)
    assert ["0o104755", "0"] == attacker(script, *WITHOUT_NO_NEW_PRIVS)


def test_no_privilege_of_the_hosts(attacker: Attacker, program: Callable[[str], Path]) -> None:
    """The host's own setuid programs gain nothing inside; with no_new_privs given up they are root's."""
    su = program("su")
    assert su.stat().st_mode & stat.S_ISUID, "the control: outside, su has its bit"
    script = f"""
        import subprocess
        def drop():
            os.setgid(1234); os.setuid(1234)
        done = subprocess.run([{str(su)!r}, "-c", "id -u"], preexec_fn=drop, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL)
        print(done.stdout or "nothing")
        asked = subprocess.Popen([{str(su)!r}, "-c", "id -u"], preexec_fn=drop, stdin=subprocess.PIPE,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        asked.stderr.read(1)  # for the password: it runs
        with open(f"/proc/{{asked.pid}}/status") as file:
            print(*(line.split()[2] for line in file if line.startswith("Uid:")))
        asked.kill()
        """
    assert ["nothing", "1234"] == attacker(script)
    assert ["nothing", "0"] == attacker(script, *WITHOUT_NO_NEW_PRIVS)


def test_file_capabilities_have_no_effect(attacker: Attacker) -> None:
    """A capability that is recorded on a program isn't there when another user executes it; with no_new_privs given
    up it is."""
    # security.capability, version 2: CAP_SYS_CHROOT permitted and effective (<linux/capability.h>).
    script = """
        import shutil, struct, subprocess
        shutil.copy("/bin/cat", "/usr/local/bin/show")
        value = struct.pack("<5I", 0x02000001, 1 << 18, 0, 0, 0)
        outcome(os.setxattr, "/usr/local/bin/show", "security.capability", value)
        def drop():
            os.setgid(1234); os.setuid(1234)
        done = subprocess.run(["/usr/local/bin/show", "/proc/self/status"], preexec_fn=drop, stdout=subprocess.PIPE,
                              text=True)
        print(*(line.split()[1] for line in done.stdout.splitlines() if line.startswith(("CapPrm", "CapEff"))))
        """
    assert ["0000000000000000 0000000000000000"] == attacker(script)
    assert ["0000000000040000 0000000000040000"] == attacker(script, *WITHOUT_NO_NEW_PRIVS)


def test_device_nodes(attacker: Attacker) -> None:
    """No device node can be made, of whatever number; the whiteout's number aside. A FIFO can."""
    script = """
        import stat
        for number in ((1, 1), (1, 3), (8, 0), (10, 229)):
            for kind in (stat.S_IFCHR, stat.S_IFBLK):
                print(outcome(os.mknod, "/tmp/sb-node", 0o666 | kind, os.makedev(*number)), end=" ")
        print(outcome(os.mkfifo, "/tmp/sb-node"))
        """
    assert ["EPERM " * 8 + "done"] == attacker(script)


def test_capabilities(attacker: Attacker) -> None:
    """Root has what podman leaves it, can gain no other, and passes none on; outside the bounding set is another."""
    script = """
        fields = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
        print(*(fields[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")))
        """
    none, podmans = "0" * 16, "00000000800405fb"
    assert [f"{none} {podmans} {podmans} {podmans} {none}"] == attacker(script)
    assert podmans != outside(script)[0].split()[3]


def test_capabilities_that_are_asked_for(sb: Sandboxes) -> None:
    """--cap-drop takes some or all away, --cap-add gives; those that would mean nothing inside are refused."""
    held = ("sh", "-c", "grep CapEff /proc/self/status | cut -f2; chown 1 /etc/passwd 2>/dev/null && echo chown")
    assert "0000000000000000\n" == sb("--cap-drop=ALL", "--", *held).stdout
    assert "0000000000080000\n" == sb("--cap-drop=all", "--cap-add=CAP_SYS_PTRACE", "--", *held).stdout
    refused = sb("--cap-add=SYS_ADMIN", "true")
    assert (125, True) == (refused.returncode, "hint: --nested" in refused.stderr)
    unknown = sb("--cap-add=SYS_PTRACES", "true")
    assert (125, True) == (unknown.returncode, "did you mean SYS_PTRACE?" in unknown.stderr)
