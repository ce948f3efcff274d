"""Mounts an overlay in the user namespace that we are root of, serves it, and runs a command in it.

serve_here.py live|layer LOWER UPPER WORK MERGED [--hide=PATH…] [--libfuse-alone] [--count=FILE] -- COMMAND…

With --libfuse-alone the server can't amend the first exchange with the kernel, as where no descriptors are left.

With --count=FILE the numbers of requests are written there: see counting.py.

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
from fuse_overlay.config import Config, Lower, pack, unpack


def no_handshake(fd: int) -> NoReturn:
    """In place of Handshake: what it does when it has no descriptors."""
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def main() -> int:
    """Returns the command's exit status."""
    split = sys.argv.index("--")
    mode, lower, upper, work, merged, *hides = sys.argv[1:split]
    command = sys.argv[split + 1 :]
    alone = "--libfuse-alone" in hides
    live = mode == "live"
    config = Config(
        (Lower(os.fsencode(lower), layer=not live, live=live),),
        os.fsencode(upper),
        os.fsencode(work),
        tuple(os.fsencode(hide.removeprefix("--hide=")) for hide in hides if hide.startswith("--hide=")),
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

        if alone:
            process.Handshake = no_handshake  # type: ignore[assignment, misc]
        counted = next((hide.removeprefix("--count=") for hide in hides if hide.startswith("--count=")), "")
        if counted:
            import counting  # from beside this file

            seen = counting.watch()
        process.serve(unpack(pack(config)), fuse)
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
