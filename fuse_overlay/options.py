"""The command line of `fuse-overlay`, as data."""

from __future__ import annotations

import os

from fuse_overlay.errors import OverlayError
from fuse_overlay.tuples import NamedTuple

USAGE = "usage: fuse-overlay [-f] [-d] -o lowerdir=DIR[:DIR…][,upperdir=DIR,workdir=DIR][,live][,…] [NAME] MOUNTPOINT"

# Options of mount(8) that go to libfuse as they are.
_MOUNT = frozenset(
    {"allow_other", "allow_root", "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "atime", "noatime",
     "sync", "async", "dirsync"}
)  # fmt: skip

_OPPOSITES = (
    ("ro", "rw"), ("suid", "nosuid"), ("dev", "nodev"), ("exec", "noexec"), ("atime", "noatime"), ("sync", "async"),
    ("allow_other", "allow_root"),
)  # fmt: skip


class Command(NamedTuple):
    """What was asked: the directories, libfuse's own options, and the options that mean nothing to us.

    `source`: what /proc/self/mounts is to name as what is mounted. `live`: the lower directories are no layers but
    plain trees, which may change underneath.
    """

    mountpoint: bytes = b""
    source: str = "fuse-overlay"
    lowers: tuple[bytes, ...] = ()
    upper: bytes | None = None
    work: bytes | None = None
    mount: frozenset[str] = frozenset()
    ignored: tuple[str, ...] = ()
    live: bool = False
    foreground: bool = False
    debug: bool = False
    version: bool = False
    help: bool = False


def parse(arguments: list[str]) -> Command:
    """Understand the arguments after the program's name. Raises OverlayError saying which one is wrong."""
    command = Command()
    options: list[str] = []
    places: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument in ("--version", "-V"):
            command = command._replace(version=True)
        elif argument in ("--help", "-h"):
            command = command._replace(help=True)
        elif argument == "-f":
            command = command._replace(foreground=True)
        elif argument == "-d":
            command = command._replace(foreground=True, debug=True)
        elif argument == "-o":
            options += split(next(waiting, ""), ",")
        elif argument.startswith("-o"):
            options += split(argument[2:], ",")
        elif argument.startswith("-"):
            raise OverlayError(f"unknown option {argument}")
        else:
            places.append(argument)
    if command.version or command.help:
        return command
    if not places:
        raise OverlayError("no mountpoint")
    *sources, mountpoint = places
    if len(sources) > 1:
        raise OverlayError(f"more than one mountpoint: {' '.join(places)}")
    if sources:  # mount.fuse3(8) puts it there, for `mount -t fuse.fuse-overlay`
        command = command._replace(source=sources[0])
    return _checked(_with_options(command._replace(mountpoint=os.fsencode(mountpoint)), options))


def split(text: str, separator: str) -> list[str]:
    """Split at a separator that no backslash precedes. Other backslashes stay for a later split."""
    parts = [""]
    escaped = False
    for character in text:
        if character == separator and not escaped:
            parts.append("")
            continue
        if escaped and character == separator:
            parts[-1] = parts[-1][:-1]
        parts[-1] += character
        escaped = character == "\\" and not escaped
    return [part for part in parts if part]


def _with_options(command: Command, options: list[str]) -> Command:
    directories: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if name in ("lowerdir", "upperdir", "workdir"):
            if not value:
                raise OverlayError(f"{name} needs a directory")
            if directories.setdefault(name, value) != value:
                raise OverlayError(f"{name} is given twice: {directories[name]} and {value}")
        elif option == "live":
            command = command._replace(live=True)
        elif name in _MOUNT and not equals:
            command = command._replace(mount=command.mount | {name})
        else:
            command = command._replace(ignored=(*command.ignored, option))
    upper, work = directories.get("upperdir"), directories.get("workdir")
    return command._replace(
        lowers=tuple(_path(part) for part in split(directories.get("lowerdir", ""), ":")),
        upper=None if upper is None else _path(upper),
        work=None if work is None else _path(work),
    )


def _path(text: str) -> bytes:
    return os.fsencode(text.replace("\\:", ":").replace("\\\\", "\\"))


def _checked(command: Command) -> Command:
    if not command.lowers:
        raise OverlayError("no lowerdir")
    if (command.upper is None) != (command.work is None):
        raise OverlayError("upperdir and workdir need each other")
    for one, other in _OPPOSITES:
        if command.mount >= {one, other}:
            raise OverlayError(f"{one} and {other} contradict each other")
    return command
