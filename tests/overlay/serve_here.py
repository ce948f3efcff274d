"""Mounts an overlay in the user namespace that we are root of, serves it, and runs a command in it.

serve_here.py live|layer LOWER UPPER WORK MERGED [OPTION…] -- COMMAND…
OPTION: --hide=PATH, as often as you like; --bytes-max=N; --audit=FILE; --count=FILE; --nodes=FILE; --libfuse-alone;
--all-local

With --all-local the server takes no file system for one that may not answer soon.

With --libfuse-alone the server can't amend the first exchange with the kernel, as where no descriptors are left.

With --count=FILE the numbers of requests are written there: see counting.py. With --nodes=FILE each statfs(2) has the
number of files written there that the server remembers.

Both are done as `sb` does them: /dev/fuse is opened and mounted here, and the server gets the descriptor.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
from typing import NoReturn

from fuse_overlay.cli import extents
from fuse_overlay.config import OPERATIONS, Config, Lower, pack, unpack


def no_handshake(fd: int) -> NoReturn:
    """In place of Handshake: what it does when it has no descriptors."""
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def values(given: list[str], name: str) -> list[str]:
    """The values of an option."""
    return [option.removeprefix(name) for option in given if option.startswith(name)]


def tell_nodes(path: str) -> None:
    """Have each statfs write how many nodes the overlay has, and how many files the helper knows besides."""
    from fuse_overlay.kernel.shortcut import SHORTCUT
    from fuse_overlay.overlay import Overlay

    look = Overlay.statfs

    def statfs(self: Overlay) -> os.statvfs_result:
        with open(path, "w", encoding="ascii") as file:
            file.write(str(len(self.tree.table) + SHORTCUT.stubs))
        return look(self)

    Overlay.statfs = statfs  # type: ignore[method-assign]


def main() -> int:
    """Returns the command's exit status."""
    split = sys.argv.index("--")
    mode, lower, upper, work, merged, *given = sys.argv[1:split]
    command = sys.argv[split + 1 :]
    alone = "--libfuse-alone" in given
    live = mode == "live"
    config = Config(
        (Lower(os.fsencode(lower), layer=not live, live=live),),
        os.fsencode(upper),
        os.fsencode(work),
        tuple(map(os.fsencode, values(given, "--hide="))),
        audited=OPERATIONS if values(given, "--audit=") else (),
        bytes_max=next(map(int, values(given, "--bytes-max=")), None),
        uids=extents("/proc/self/uid_map"),
        gids=extents("/proc/self/gid_map"),
    )
    fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"fuse", os.fsencode(merged), b"fuse", 0, options.encode()) != 0:
        print("cannot mount:", os.strerror(ctypes.get_errno()), file=sys.stderr)
        return 125
    server = os.fork()
    if server == 0:
        from fuse_overlay import server as process

        if "--all-local" in given:
            from fuse_overlay import policy

            policy.is_remote = lambda kind: False
        if alone:
            process.Handshake = no_handshake  # type: ignore[assignment, attr-defined]
        audit = next(iter(values(given, "--audit=")), os.devnull)
        audit_fd = os.open(audit, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        counted = next(iter(values(given, "--count=")), "")
        if counted:
            from tests.overlay import counting

            seen = counting.watch()
        for path in values(given, "--nodes="):
            tell_nodes(path)
        process.serve(unpack(pack(config)), fuse, audit_fd)
        if counted:
            counting.write(counted, seen)
        os._exit(0)
    os.close(fuse)
    runner = os.fork()
    if runner == 0:
        os.chdir(merged)
        os.execvp(command[0], command)
    _, status = os.waitpid(runner, 0)
    if libc.umount2(os.fsencode(merged), 0) != 0:
        # Something of the command still runs in there; the server must not outlive the test.
        print("cannot unmount:", os.strerror(ctypes.get_errno()), file=sys.stderr)
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
        return 124
    _, served = os.waitpid(server, 0)
    return os.waitstatus_to_exitcode(status) or os.waitstatus_to_exitcode(served)


if __name__ == "__main__":
    sys.exit(main())
