"""What is left in the server, through a real mount, of a walk over many files that the kernel has forgotten."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.overlay.ways import python

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Count
    from tests.overlay.conftest import Mounted

IN_ONE = 1000

# A mount that is remounted drops all names that nobody uses (shrink_dcache_sb in fs/dcache.c, called by
# reconfigure_super), and with the last name of a file its inode, which is when FUSE says that it is forgotten.
WALK = """
import ctypes, os, time

def children(pid):
    return open(f"/proc/{{pid}}/task/{{pid}}/children").read().split()

# serve_here.py has two children, the server and the shell that runs this.
shell = os.getppid()
status = dict(line.split(":", 1) for line in open(f"/proc/{{shell}}/status"))
server = children(int(status["PPid"]))[0]

def resident():
    return int(open(f"/proc/{{server}}/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def nodes():
    os.statvfs(".")
    return int(open("{nodes}").read())

def walk():
    for directory in os.scandir("."):
        for entry in os.scandir(directory.path):
            os.lstat(entry.path)

def wait_for(condition, what):
    for turn in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise SystemExit(f"never happened: {{what}}; resident {{resident()}}")

libc = ctypes.CDLL(None, use_errno=True)
MS_REMOUNT = 32

os.listdir(".")
few, before = nodes(), resident()
for turn in range(2):
    walk()
    many, walked = nodes(), resident()
    assert many - few >= {number}, (few, many)
    assert libc.mount(b"none", b".", b"none", MS_REMOUNT, None) == 0, os.strerror(ctypes.get_errno())
    wait_for(lambda: nodes() <= few, "as few nodes as before")
    grown = walked - before
    wait_for(lambda: resident() - before <= grown // 2, f"{{before}}, {{walked}}, and not much of it back")
print(f"{{before >> 20}} MiB before, {{walked >> 20}} walked, {{resident() >> 20}} forgotten")
"""


def plant(lower: Path, number: int) -> None:
    """So many empty files, each an inode of its own, a thousand in a directory."""
    for first in range(0, number, IN_ONE):
        directory = lower / str(first)
        directory.mkdir()
        fd = os.open(directory, os.O_RDONLY)
        for name in range(IN_ONE):
            os.mknod(str(name), 0o644, dir_fd=fd)
        os.close(fd)


@pytest.mark.parametrize("live", [False, True])
def test_what_the_kernel_forgets_takes_no_memory(mounted: Mounted, count: Count, live: bool) -> None:
    """Once the kernel has dropped what a walk over many files has found, so has the server, and gives its memory back;
    after a second walk too.
    """
    number = count(40_000, 1_000_000)
    plant(mounted.lower, number)
    nodes = mounted.base / "nodes"
    script = WALK.format(nodes=nodes, number=number)
    options = (f"--nodes={nodes}",)
    print(mounted.run(python(script), live=live, options=options, timeout=count(300, 3000)))
