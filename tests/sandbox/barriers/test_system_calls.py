"""Attack: calls into parts of the kernel that a sandbox has no business in. Barrier: seccomp."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from rootless_sb.security.system_calls import machine
from tests.sandbox import processes
from tests.sandbox.barriers.attackers import outside

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox.barriers.attackers import Attacker
    from tests.sandbox.running import Sandboxes

KNOWN = machine(os.uname().machine)
assert KNOWN is not None
NUMBERS = KNOWN.numbers
_NEW_USER = 0x10000000
_NONE = 2**64 - 1  # no descriptor

# A call, its arguments, and how it ends inside. Outside each ends otherwise, for an ordinary user too.
CALLS: list[tuple[str, tuple[int | bytes, ...], str]] = [
    ("keyctl", (0, 2**64 - 3, 0), "EPERM"),  # KEYCTL_GET_KEYRING_ID of the session keyring
    ("add_key", (b"user", b"sb-test", b"x", 1, 2**64 - 2), "EPERM"),
    ("request_key", (b"user", b"sb-none", 0, 0), "EPERM"),
    ("perf_event_open", (0, 0, 0, 0, 0), "EPERM"),
    ("userfaultfd", (1,), "EPERM"),  # UFFD_USER_MODE_ONLY
    ("quotactl", (0xFF, 0, 0, 0), "EPERM"),
    ("mount", (b"x", b"/no/where", b"tmpfs", 0, 0), "EPERM"),
    ("umount2", (b"/", 1 << 20), "EPERM"),
    ("setns", (_NONE, 0), "EPERM"),
    ("unshare", (_NEW_USER,), "EPERM"),
    ("unshare", (0x7F << 32 | _NEW_USER,), "EPERM"),
    ("clone3", (0, 0), "ENOSYS"),
    ("fsopen", (0, 1 << 20), "ENOSYS"),
    ("open_tree", (_NONE, b"/", 0), "ENOSYS"),
    ("mount_setattr", (_NONE, b"/", 1 << 30, 0, 0), "ENOSYS"),
    ("io_uring_setup", (1, 0), "ENOSYS"),
    ("io_uring_enter", (_NONE, 0, 0, 0, 0, 0), "ENOSYS"),
    ("socket", (38, 5, 0), "EAFNOSUPPORT"),  # AF_ALG
    ("socket", (1 << 40 | 38, 5, 0), "EAFNOSUPPORT"),
    ("socket", (40, 1, 0), "EAFNOSUPPORT"),  # AF_VSOCK
    ("socket", (17, 3, 0), "EAFNOSUPPORT"),  # AF_PACKET
]


def attempts(calls: list[tuple[str, tuple[int | bytes, ...], str]]) -> str:
    """A program that makes each call in a child of its own and prints how it ended."""
    listed = [(NUMBERS[name], arguments) for name, arguments, _ in calls]
    return f"""
        for number, arguments in {listed!r}:
            child = os.fork()
            if not child:
                print(outcome(call, number, *arguments), flush=True)
                os._exit(0)
            os.waitpid(child, 0)
        """


def test_calls_are_refused(attacker: Attacker) -> None:
    """Each call is refused with its error; outside it ends otherwise, or the kernel hasn't got it."""
    control = outside(attempts(CALLS))
    refused = attacker(attempts(CALLS))
    for (name, arguments, expected), ended, before in zip(CALLS, refused, control, strict=True):
        assert expected == ended, (name, arguments)
        absent = before in ("ENOSYS", "EAFNOSUPPORT")
        assert absent or expected != before, (name, arguments)


def test_most_calls_are_there_outside() -> None:
    """The control's own control: what the test above passes over for being absent is little."""
    ended = outside(attempts(CALLS))
    if "ENOSYS" == dict(zip((name for name, *_ in CALLS), ended, strict=True))["mount_setattr"]:
        pytest.skip("this kernel lacks many of the calls: it is older than Linux 5.12, or looks like it")
    absent = [before for before in ended if before in ("ENOSYS", "EAFNOSUPPORT")]
    assert len(absent) <= 4


def test_namespaces_by_clone(attacker: Attacker) -> None:
    """clone(2) with the flag of a user namespace is EPERM; with the flags of a fork, and of a thread, it works."""
    script = f"""
        import threading
        def clone(flags):
            pid = libc.syscall(ctypes.c_long({NUMBERS["clone"]}), ctypes.c_ulong(flags), None, None, None, None)
            if pid == 0:
                os._exit(0)
            if pid == -1:
                raise OSError(ctypes.get_errno(), "")
            os.waitpid(pid, 0)
        thread = threading.Thread(target=lambda: print("thread"))
        thread.start(); thread.join()
        print(outcome(clone, 17), outcome(clone, 17 | {_NEW_USER}))
        """
    assert ["thread", "done EPERM"] == attacker(script)
    assert ["thread", "done done"] == outside(script)
    assert ["thread", "done done"] == attacker(script, "--nested")


def test_what_is_newer_than_the_table(attacker: Attacker) -> None:
    """A call above all that sb knows is ENOSYS, and so is one of those that no kernel has."""
    numbers = (max(NUMBERS.values()) + 1, 9999, NUMBERS["getpid"])
    script = f"print(*(outcome(call, number) for number in {numbers}))"
    assert ["ENOSYS ENOSYS done"] == attacker(script)


FOREIGN = r"""
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int count, char **words) {
    long result = -1;
    if (strcmp(words[1], "x32") == 0)
        result = syscall(0x40000000 + 39);
    else if (strcmp(words[1], "i386") == 0)
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory");
    else
        result = syscall(39);
    printf("%s\n", words[1]);
    return 0;
}
"""


@pytest.fixture
def foreign(tmp_path: Path, program: Callable[[str], Path]) -> Path:
    """A program that makes one call as x32 or 32-bit code does."""
    if os.uname().machine != "x86_64":
        pytest.skip("x32 and 32-bit calls are x86_64's")
    (tmp_path / "foreign.c").write_text(FOREIGN)
    subprocess.run([program("gcc"), "-o", tmp_path / "foreign", tmp_path / "foreign.c"], check=True)
    return tmp_path / "foreign"


@pytest.mark.parametrize("kind", ["x32", "i386"])
def test_foreign_calls_kill(attacker: Attacker, foreign: Path, kind: str) -> None:
    """A call of x32 or of 32-bit code ends the process with SIGSYS; a native one is fine, and so are all outside."""
    assert 128 + 31 == attacker.run([str(foreign), kind]).returncode
    assert "native\n" == attacker.run([str(foreign), "native"]).stdout
    assert 0 == subprocess.run([foreign, kind], check=False, stdout=subprocess.DEVNULL).returncode


def test_without_the_filter(sb: Sandboxes) -> None:
    """--seccomp unconfined and --allow-degraded seccomp take the filter away."""
    if processes.status(os.getpid(), "Seccomp") != "0":
        pytest.skip("a seccomp filter is in force already where the tests run")
    for option in ("--seccomp=unconfined", "--allow-degraded=seccomp", "--security-opt=seccomp=unconfined"):
        assert "Seccomp:\t0\n" == sb(option, "grep", "^Seccomp:", "/proc/self/status").stdout
    assert "Seccomp:\t2\n" == sb("grep", "^Seccomp:", "/proc/self/status").stdout
