"""The command `fuse-overlay`: mounts an overlay where it is told, with fuse-overlayfs' command line."""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys

from fuse_overlay import options, places
from fuse_overlay.config import Config, Extent, Lower
from fuse_overlay.errors import OverlayError

_VERSION = "0.1.0"


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns the exit status: 0 when mounted (or, with -f, when unmounted again), 1 on an error."""
    try:
        command = options.parse(sys.argv[1:] if arguments is None else arguments)
        if command.version:
            print(f"fuse-overlay: version {_VERSION}")
            return 0
        if command.help:
            print(options.USAGE)
            return 0
        _check(command)
        for option in command.ignored:
            print(f"fuse-overlay: unknown option {option} ignored", file=sys.stderr)
        return _run(command) if command.foreground else _run_behind(command)
    except (OverlayError, OSError) as error:
        print(f"fuse-overlay: {error}", file=sys.stderr)
        return 1


def configuration(command: options.Command) -> Config:
    """What to serve for a command: ids are those of the user namespace that we are in ourselves."""
    return Config(
        lowers=tuple(Lower(os.path.abspath(path), not command.live, command.live) for path in command.lowers),
        upper=None if command.upper is None else os.path.abspath(command.upper),
        work=None if command.work is None else os.path.abspath(command.work),
        own_uid=os.geteuid(),
        own_gid=os.getegid(),
        uids=extents("/proc/self/uid_map"),
        gids=extents("/proc/self/gid_map"),
    )


def _check(command: options.Command) -> None:
    """See that the directories are there and can be used together. Raises OverlayError."""
    named = [("mountpoint", command.mountpoint), *(("lowerdir", path) for path in command.lowers)]
    named += [(option, path) for option, path in (("upperdir", command.upper), ("workdir", command.work)) if path]
    wrong = places.conflict([_place(option, path) for option, path in named])
    if wrong is not None:
        raise OverlayError(wrong)


def _place(option: str, path: bytes) -> places.Place:
    try:
        if not stat.S_ISDIR(os.stat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        above = os.path.realpath(path)
        lineage = [os.stat(above)]
        while above != b"/":
            above = os.path.dirname(above)
            lineage.append(os.stat(above))
    except OSError as error:
        raise OverlayError(f"cannot open {option} {os.fsdecode(path)}: {error.strerror}") from None
    return places.Place(option, os.fsdecode(path), tuple((st.st_dev, st.st_ino) for st in lineage))


def extents(path: str) -> tuple[Extent, ...]:
    """The ids that exist in a user namespace, from its /proc/PID/uid_map or gid_map."""
    with open(path, encoding="ascii") as lines:
        fields = [line.split() for line in lines]
    return tuple(Extent(int(inside), int(count)) for inside, _, count in fields)


def _run(command: options.Command, ready: int = -1) -> int:
    """Mount and serve until unmounted. `ready`: a descriptor to write a byte to when it is mounted."""
    config = configuration(command)
    from fuse_overlay import loop, server
    from fuse_overlay.libfuse import pyfuse3
    from fuse_overlay.operations import FuseOperations
    from fuse_overlay.overlay import Overlay

    overlay = Overlay(config)
    handshake = server.start(FuseOperations(overlay), os.fsdecode(command.mountpoint), _libfuse_options(command))
    try:
        if ready >= 0:
            _detach(ready)
        loop.run(handshake, end_on=signal.SIGTERM)
    finally:
        pyfuse3.close()
        overlay.close()
    return 0


def _libfuse_options(command: options.Command) -> set[str]:
    source = command.source.replace("\\", "\\\\").replace(",", "\\,")  # as fuse_opt.c undoes it
    wanted = {f"fsname={source}", "subtype=fuse-overlay", "default_permissions", *command.mount}
    if os.geteuid() == 0:
        wanted.add("allow_other")  # as a container's root: its other users are to see the files too
    if command.debug:
        wanted.add("debug")
    return wanted


def _run_behind(command: options.Command) -> int:
    """Serve from a process of its own. Returns when it has mounted, or has failed to."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os._exit(_child(command, writer))
    os.close(writer)
    with open(reader, "rb") as answers:
        if answers.read(1):
            return 0
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) or 1


def _child(command: options.Command, ready: int) -> int:
    try:
        return _run(command, ready)
    except (OverlayError, OSError) as error:
        print(f"fuse-overlay: {error}", file=sys.stderr)
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _detach(ready: int) -> None:
    """Become a daemon and tell the command that waits that all is well."""
    os.setsid()
    os.chdir("/")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    os.write(ready, b"1")
    os.close(ready)


if __name__ == "__main__":
    sys.exit(main())
