"""Mounts an overlay in the user namespace that we are root of, serves it, and runs a command in it.

serve_here.py live|layer LOWER UPPER WORK MERGED [--hide=PATH…] -- COMMAND…

Both are done as `sb` does them: /dev/fuse is opened and mounted here, and the server gets the descriptor.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from fuse_overlay.cli import extents
from fuse_overlay.config import Config, Lower, pack, unpack


def main() -> int:
    """Returns the command's exit status."""
    split = sys.argv.index("--")
    mode, lower, upper, work, merged, *hides = sys.argv[1:split]
    command = sys.argv[split + 1 :]
    live = mode == "live"
    config = Config(
        (Lower(os.fsencode(lower), layer=not live, live=live),),
        os.fsencode(upper),
        os.fsencode(work),
        tuple(os.fsencode(hide.removeprefix("--hide=")) for hide in hides),
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
        from fuse_overlay.server import serve

        serve(unpack(pack(config)), fuse)
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
