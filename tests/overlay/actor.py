"""Does acts in an overlay that it mounts, in the kernel's overlayfs and in a plain directory, for whoever drives it.

Root of a user namespace of its own. Reads pickled requests from stdin and answers each on stdout:
("begin", base, layers, kernel), ("act", act), ("restart",), ("end",); the answers are what the acts ended with in
each place, and pictures of the places: the plain directory, the overlay, and the kernel's overlay if that is wanted.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse_overlay.cli import extents
from fuse_overlay.config import Config, Lower
from fuse_overlay.server import serve
from tests.overlay.acts import Acts, copy_out, let_time_pass, plant_layer

if TYPE_CHECKING:
    from tests.overlay.acts import Act, Picture

_MS_REMOUNT = 32
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def mount(kind: str, target: str, flags: int, options: str) -> None:
    """mount(2)."""
    if _libc.mount(kind.encode(), target.encode(), kind.encode(), flags, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"cannot mount {kind}: {os.strerror(ctypes.get_errno())}")


def unmount(target: str) -> None:
    """umount2(2)."""
    if _libc.umount2(target.encode(), 0) != 0:
        raise OSError(ctypes.get_errno(), f"cannot unmount {target}: {os.strerror(ctypes.get_errno())}")


class Places:
    """The places of one run."""

    def __init__(self, base: str, layers: list[tuple[dict[str, Any], list[tuple[str, str]]]], kernel: bool) -> None:
        self.base = base
        self.kernel = kernel
        os.mkdir(base)
        for name in ("upper", "work", "merged", "kernel-upper", "kernel-work", "kernel"):
            os.mkdir(f"{base}/{name}")
        self.lowers = [f"{base}/lower{number}" for number in range(len(layers))]
        for path, (tree, links) in zip(self.lowers, layers, strict=True):
            plant_layer(Path(path), tree, links)
        self.server = self._serve()
        if kernel:
            self._mount_kernels()
        self.acts = [Acts(f"{base}/plain"), Acts(f"{base}/merged")]
        if kernel:
            self.acts.append(Acts(f"{base}/kernel", lists_whiteouts=True))
        copy_out(self.acts[1].picture(), self.acts[0].top)

    def act(self, act: Act) -> list[object]:
        """Do an act in all places."""
        let_time_pass(f"{self.base}/scratch")
        if act[0] == "forget":
            # reconfigure_super() in fs/super.c empties the cache of names.
            mount("fuse", f"{self.base}/merged", _MS_REMOUNT, "")
            return [None for _ in self.acts]
        return [place.do(act) for place in self.acts]

    def pictures(self) -> list[Picture]:
        """What is in all places."""
        return [place.picture() for place in self.acts]

    def restart(self) -> None:
        """Unmount, end the server, mount the same layers again."""
        self._stop()
        self.server = self._serve()
        if self.kernel:
            self._mount_kernels()

    def end(self) -> None:
        """Unmount and remove all."""
        self._stop()
        shutil.rmtree(self.base)

    def _stop(self) -> None:
        for place in self.acts:
            place.close_all()
        unmount(f"{self.base}/merged")
        os.waitpid(self.server, 0)
        if self.kernel:
            unmount(f"{self.base}/kernel")

    def _serve(self) -> int:
        fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
        mount("fuse", f"{self.base}/merged", 0, options)
        server = os.fork()
        if server == 0:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            config = Config(
                tuple(Lower(os.fsencode(path), layer=True, live=False) for path in self.lowers),
                os.fsencode(f"{self.base}/upper"),
                os.fsencode(f"{self.base}/work"),
                uids=extents("/proc/self/uid_map"),
                gids=extents("/proc/self/gid_map"),
            )
            serve(config, fuse)
            os._exit(0)
        os.close(fuse)
        return server

    def _mount_kernels(self) -> None:
        upper, work = f"{self.base}/kernel-upper", f"{self.base}/kernel-work"
        options = f"userxattr,lowerdir={':'.join(self.lowers)},upperdir={upper},workdir={work}"
        mount("overlay", f"{self.base}/kernel", 0, options)


def main() -> None:
    """Answer requests until stdin ends."""
    os.umask(0)
    places: Places | None = None
    while True:
        try:
            name, *arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        outcome: list[object] = []
        if name == "begin":
            places = Places(*arguments)
        elif places is not None and name == "act":
            outcome = places.act(*arguments)
        elif places is not None and name == "restart":
            places.restart()
        elif places is not None and name == "end":
            places.end()
            places = None
        pickle.dump((outcome, places.pictures() if places is not None else []), sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
