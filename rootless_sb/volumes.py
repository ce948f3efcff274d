"""What of the host is bound into a sandbox (`--volume`), and file systems in memory (`--tmpfs`). Pure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from rootless_sb.errors import SbError
from rootless_sb.kernel.mounts import NODEV, NOSUID
from rootless_sb.steps import AttachVolume, BindHost, MakeDirectory, MountAt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless_sb.steps import Step

_STAGED = "volumes"  # where they get ready in the stage


class Volume(NamedTuple):
    """A file or directory of the host, and where it is inside; both paths are absolute."""

    source: str
    target: str
    read_only: bool


class Scratch(NamedTuple):
    """A tmpfs, where it is inside, and its mount options: tmpfs(5)."""

    target: str
    options: str


def parse_volume(text: str, directory: str) -> Volume:
    """`SRC[:DST[:ro]]`; a relative SRC begins in `directory`, and DST is SRC where it isn't given. Raises SbError."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not source or mode not in ("", "ro", "rw"):
        raise SbError(f"--volume {text}", "not a volume", "-v SRC, -v SRC:DST or -v SRC:DST:ro")
    source = os.path.normpath(os.path.join(directory, source))
    return Volume(source, _inside(target or source, f"--volume {text}"), mode == "ro")


def parse_scratch(text: str) -> Scratch:
    """`DST[:OPTION,…]`. Raises SbError."""
    target, _, options = text.partition(":")
    return Scratch(_inside(target, f"--tmpfs {text}"), options or "mode=1777")


def _inside(path: str, what: str) -> str:
    """A place in the sandbox that something can be mounted at. Raises SbError."""
    if not path.startswith("/"):
        raise SbError(what, f"{path or 'nothing'} is not an absolute path", "DST is where it is inside: /data, say")
    normal = os.path.normpath(path)
    if normal.lstrip("/") == "":
        raise SbError(what, "the root can't be covered", "--rootfs DIR uses a directory as the root")
    return "/" + normal.lstrip("/")


def read_only_within(volumes: tuple[Volume, ...], paths: tuple[str, ...]) -> tuple[Volume, ...]:
    """Volumes that lie over these paths inside, as far as they are in a volume that can be written to: read-only ones.

    A path that isn't there on the host can't be bound, which is an error then.
    """
    found = []
    for path in map(os.path.normpath, paths):
        around = [volume for volume in volumes if f"{path}/".startswith(f"{volume.target}/")]
        if around and not (nearest := max(around, key=lambda volume: len(volume.target))).read_only:
            found.append(Volume(nearest.source + path[len(nearest.target) :], path, read_only=True))
    return tuple(found)


class Cover(NamedTuple):
    """What is covered in the volume that gets ready at `place`: what it has of these hidden paths of the host, some with
    a `*` in the last name, and, if it can be written to, what runs by itself (`unasked`), but for what is `shown`.
    """

    place: str
    source: str
    read_only: bool
    hidden: tuple[str, ...]
    shown: tuple[str, ...]
    home: str


def covers(
    volumes: tuple[Volume, ...], hidden: tuple[str, ...], inside: tuple[str, ...], shown: tuple[str, ...], home: str
) -> tuple[Cover, ...]:
    """What is covered in each volume. `hidden`: paths on the host, `inside`: in the sandbox."""
    found = []
    for number, volume in enumerate(volumes):
        above = f"{volume.target}/"
        moved = (volume.source + path[len(volume.target) :] for path in inside if path.startswith(above))
        place = f"{_STAGED}/{number}"
        found.append(Cover(place, volume.source, volume.read_only, (*hidden, *moved), shown, home))
    return tuple(found)


def with_covered(steps: tuple[Step, ...], covered: Mapping[str, tuple[Step, ...]]) -> tuple[Step, ...]:
    """The steps, with those that cover something in a volume after the one that has made it ready."""
    found: list[Step] = []
    for step in steps:
        found.append(step)
        if isinstance(step, BindHost):
            found += covered.get(step.place, ())
    return tuple(found)


def volume_steps(volumes: tuple[Volume, ...], scratches: tuple[Scratch, ...]) -> tuple[Step, ...]:
    """The steps that make them ready and put them into place, those above before those beneath them."""
    ready: list[Step] = []
    attach: list[AttachVolume] = []
    for number, volume in enumerate(volumes):
        place = f"{_STAGED}/{number}"
        ready.append(BindHost(volume.source, place, volume.read_only))
        attach.append(AttachVolume(place, volume.target))
    for number, scratch in enumerate(scratches, len(volumes)):
        place = f"{_STAGED}/{number}"
        ready += [MakeDirectory(place), MountAt("tmpfs", place, NOSUID | NODEV, scratch.options)]
        attach.append(AttachVolume(place, scratch.target))
    if not ready:
        return ()
    return (MakeDirectory(_STAGED), *ready, *sorted(attach, key=lambda step: step.target.count("/")))
