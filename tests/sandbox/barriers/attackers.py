"""Runs Python programs inside a sandbox, whichever way in, and the same ones outside."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from rootless_sb.kernel import landlock
from tests.sandbox.running import PATIENCE, eventually, stdout_until

if TYPE_CHECKING:
    from tests.sandbox.running import Sandboxes

# What every program begins with: `outcome` says in a word how an act went, `call` makes a system call by its number.
PRELUDE = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def outcome(act, *arguments):
    try:
        act(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "done"
def call(number, *arguments):
    wide = [each if isinstance(each, bytes) else ctypes.c_ulong(each & 2**64 - 1) for each in arguments]
    if libc.syscall(ctypes.c_long(number), *wide) == -1:
        raise OSError(ctypes.get_errno(), "")
"""
# What a program adds to have a child `pid` that stays.
CHILD = """
    import time
    pid = os.fork()
    if not pid:
        time.sleep(60)
        os._exit(0)
    """


def program(script: str) -> list[str]:
    """The command line of a Python program that begins with the prelude."""
    return [sys.executable, "-I", "-c", PRELUDE + textwrap.dedent(script)]


def outside(script: str) -> list[str]:
    """Run a program without a sandbox: the control. Returns the lines that it printed; it must succeed."""
    done = subprocess.run(
        program(script), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout.splitlines()


class Attacker:
    """Runs programs in a new sandbox, or by `sb exec` in one that runs already."""

    def __init__(self, sb: Sandboxes, *, by_exec: bool) -> None:
        self._sb = sb
        self._by_exec = by_exec

    def run(self, command: list[str], *options: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a sandbox with these options of `sb run`."""
        if not self._by_exec:
            return self._sb(*options, "--", *command)
        box = self._sb.start("--name", "box", "--rm", *options, "--", "sh", "-c", "echo ready; read line")
        stdout_until(box, b"ready\n")
        eventually(lambda: "running" in self._sb.command("ps").stdout)
        done = self._sb.command("exec", "box", *command)
        box.communicate(timeout=PATIENCE)
        return done

    def __call__(self, script: str, *options: str) -> list[str]:
        """Run a Python program in a sandbox; it must succeed. Returns the lines that it printed."""
        done = self.run(program(script), *options)
        assert 0 == done.returncode, done.stderr
        return done.stdout.splitlines()


def require_landlock(version: int) -> None:
    """Skip the test where the kernel's Landlock is older than this version of its interface."""
    if landlock.version_or_none() < version:
        pytest.skip(f"this kernel has no Landlock of version {version}")
