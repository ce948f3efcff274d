"""What of the host is bound into a sandbox (`--volume`), and file systems in memory (`--tmpfs`). Pure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError
from rootless_sb.kernel.mounts import NOATIME, NODEV, NOEXEC, NOSUID, RDONLY
from rootless_sb.secrets import stands_for
from rootless_sb.steps import AttachVolume, BindHost, HideWithin, HoldInVolume, MakeDirectory, MountAt

if TYPE_CHECKING:

    from rootless_sb.spec import RunSpec
    from rootless_sb.steps import Step

_STAGED = "volumes"  # where they get ready in the stage
# Of `--tmpfs`: options that are flags (devices and setuid programs have no effect in any case), and those that have a
# value, with what it may consist of: tmpfs(5).
_FLAGS = {"rw": 0, "ro": RDONLY, "exec": 0, "noexec": NOEXEC, "nosuid": 0, "nodev": 0, "noatime": NOATIME}
_DIGITS = "0123456789"
_OPTIONS = {
    "size": f"{_DIGITS}kKmMgG%",
    "mode": "01234567",
    "uid": _DIGITS,
    "gid": _DIGITS,
    "nr_inodes": f"{_DIGITS}kKmMgG",
    "nr_blocks": f"{_DIGITS}kKmMgG",
}


class Volume(NamedTuple):
    """A file or directory of the host, and where it is inside; both paths are absolute."""

    source: str
    target: str
    read_only: bool


class Scratch(NamedTuple):
    """A tmpfs, where it is inside, its mount options (tmpfs(5)) and more flags of mount(2)."""

    target: str
    options: str
    flags: int = 0


def parse_volume(text: str, directory: str) -> Volume:
    """`SRC[:DST[:ro]]`; a relative SRC begins in `directory`, and DST is SRC where it isn't given. Raises SbError."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not source or mode not in ("", "ro", "rw"):
        raise SbError(f"--volume {text}", "not a volume", "-v SRC, -v SRC:DST or -v SRC:DST:ro")
    source = os.path.normpath(os.path.join(directory, source))
    return Volume(source, _inside(target or source, f"--volume {text}"), mode == "ro")


def parse_scratch(text: str) -> Scratch:
    """`DST[:OPTION,…]`, with mount(8)'s options, as docker takes them. Raises SbError."""
    target, _, listed = text.partition(":")
    flags, options = 0, []
    for option in filter(None, listed.split(",")):
        name, _, value = option.partition("=")
        if option in _FLAGS:
            flags |= _FLAGS[option]
        elif name in _OPTIONS and value.isascii() and value[:1].isdigit() and not value.rstrip(_OPTIONS[name]):
            options.append(option)
        else:
            hint = f"{', '.join(f'{each}=' for each in _OPTIONS)}; {', '.join(_FLAGS)}"
            raise SbError(f"--tmpfs {text}", f"{option} is no option of a tmpfs", hint)
    if not any(option.startswith("mode=") for option in options):
        options.append("mode=1777")
    return Scratch(_inside(target, f"--tmpfs {text}"), ",".join(options), flags)


def _inside(path: str, what: str) -> str:
    """A place in the sandbox that something can be mounted at. Raises SbError."""
    if not path.startswith("/"):
        raise SbError(what, f"{path or 'nothing'} is not an absolute path", "DST is where it is inside: /data, say")
    normal = os.path.normpath(path)
    if normal.lstrip("/") == "":
        raise SbError(what, "the root can't be covered", "--rootfs DIR uses a directory as the root")
    return "/" + normal.lstrip("/")


def require_others(volumes: tuple[Volume, ...], own: tuple[str, ...]) -> None:
    """Refuse a volume at or beneath a path that is sb's own: inside, states could be forged, and an agent's socket
    replaced, to which the next `sb run` hands its descriptors. Raises SbError.

    What leads there by another path is refused once it is opened to be bound.
    """
    for volume in volumes:
        if f"{volume.source}/".startswith(tuple(f"{path}/" for path in own)):
            raise not_for_sandboxes(volume.source)


def not_for_sandboxes(source: str) -> SbError:
    """The error of who wants to see what is sb's own."""
    return SbError(
        f"--volume {source}", "no sandbox may see what is sb's own", "sb cp copies files out of a sandbox"
    )


def require_apart(volumes: tuple[Volume, ...], scratches: tuple[Scratch, ...]) -> None:
    """Refuse two of them at one place, of which nobody could tell which is seen there. Raises SbError."""
    seen: set[str] = set()
    options = [(f"--volume {each.source}:{each.target}", each.target) for each in volumes]
    options += [(f"--tmpfs {each.target}", each.target) for each in scratches]
    for option, target in options:
        if target in seen:
            hint = "another place inside for one of them (those that SB_* and config.toml name count too)"
            raise SbError(option, f"something else is mounted at {target} already", hint)
        seen.add(target)


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


def pins(volumes: tuple[Volume, ...], paths: tuple[str, ...]) -> tuple[HoldInVolume, ...]:
    """The steps that keep the directories above these paths inside where they are: renamed, they would take a read-only
    path with them, and another could be made in its place.
    """
    found: dict[HoldInVolume, None] = {}
    for path in map(os.path.normpath, paths):
        around = [each for each in enumerate(volumes) if f"{path}/".startswith(f"{each[1].target}/")]
        if around and not (nearest := max(around, key=lambda each: len(each[1].target)))[1].read_only:
            names = path[len(nearest[1].target) :].strip("/").split("/")
            for count in range(1, len(names)):
                found[HoldInVolume(f"{_STAGED}/{nearest[0]}", "/".join(names[:count]), read_only=False)] = None
    return tuple(found)


class Guarded(NamedTuple):
    """A volume that can be written to, in which what runs by itself (`unasked`) is to stay as it is, but for what is
    `shown`: where it gets ready, its source, and the user's home, all but the first on the host.
    """

    place: str
    source: str
    shown: tuple[str, ...]
    home: str


def guarded(volumes: tuple[Volume, ...], shown: tuple[str, ...], home: str) -> tuple[Guarded, ...]:
    """Those of the volumes that can be written to."""
    return tuple(
        Guarded(f"{_STAGED}/{number}", volume.source, shown, home)
        for number, volume in enumerate(volumes)
        if not volume.read_only
    )


def held_repository(wanted: RunSpec, command: tuple[str, ...], directory: str) -> str | None:
    """Where on the host a command that says `git init` would make the repository, if it works at the top of a volume,
    where that is held; None if it doesn't. (Who looks a held name up leaves no trace: it is a mount.)
    """
    words = " ".join(command).split()
    calls = [number for number, word in enumerate(words) if os.path.basename(word) == "git"]
    if not calls or "init" not in words[calls[0] :]:
        return None
    for volume in (parse_volume(text, "/") for text in wanted.volumes):
        path = f"{volume.source.rstrip('/')}/.git"
        shown = any(f"{path}/".startswith(f"{each.rstrip('/')}/") for each in wanted.shown)
        if volume.target == os.path.normpath(directory) and not volume.read_only and not shown:
            return path
    return None


def with_held(steps: tuple[Step, ...], held: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps, with those that hold something in volumes before the first volume is put into its place."""
    first = next((number for number, step in enumerate(steps) if isinstance(step, AttachVolume)), len(steps))
    return (*steps[:first], *held, *steps[first:])


def outside(volumes: tuple[Volume, ...], paths: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the paths inside that are in none of the volumes."""
    targets = tuple(f"{each.target}/" for each in volumes)
    return tuple(path for path in paths if not f"{os.path.normpath(path)}/".startswith(targets))


def without_hidden(volumes: tuple[Volume, ...], hidden: tuple[str, ...]) -> tuple[Volume, ...]:
    """Those of the volumes whose source is neither at nor beneath a hidden path of the host."""
    return tuple(each for each in volumes if not any(_lies_in(each.source, path) for path in hidden))


def hidden_on_host(volumes: tuple[Volume, ...], paths: tuple[str, ...]) -> tuple[str, ...]:
    """The paths of the host that are at these ones inside, as far as they lie in volumes."""
    found = []
    for path in map(os.path.normpath, paths):
        found += [
            each.source.rstrip("/") + path[len(each.target) :]
            for each in volumes
            if path.startswith(f"{each.target}/")
        ]
    return tuple(found)


def name_to_cover(path: str, source: str, apart: tuple[str, ...]) -> str | None:
    """Where a hidden file of the host lies in a volume, relative to its source, both given without symbolic links; None
    if it isn't in there, if the volume is nothing else, or if something else goes there. Raises SbError if something
    would go beneath it.
    """
    if not path.startswith(f"{source.rstrip('/')}/"):
        return None
    name = path[len(source.rstrip("/")) + 1 :]
    if any(each.startswith(f"{name}/") for each in apart):
        hint = f"--show {path}, if it is hidden by default"
        raise SbError(f"cannot mount anything in {path}", "it is hidden", hint)
    return None if name in apart else name


def volume_steps(
    volumes: tuple[Volume, ...],
    scratches: tuple[Scratch, ...],
    hidden: tuple[str, ...] = (),
    own: tuple[str, ...] = (),
) -> tuple[Step, ...]:
    """The steps that make them ready and put them into place, those above before those beneath them.

    `hidden`: the paths of the host that are covered where they lie in a volume; `own`: those that are sb's.
    """
    ready: list[Step] = []
    attach: list[AttachVolume] = []
    targets = [*(each.target for each in volumes), *(each.target for each in scratches)]
    for number, volume in enumerate(volumes):
        place = f"{_STAGED}/{number}"
        ready.append(BindHost(volume.source, place, volume.read_only, own))
        if hidden:
            inner = f"{volume.target}/"
            apart = tuple(target.removeprefix(inner) for target in targets if target.startswith(inner))
            ready.append(HideWithin(place, volume.source, hidden, apart))
        attach.append(AttachVolume(place, volume.target))
    for number, scratch in enumerate(scratches, len(volumes)):
        place = f"{_STAGED}/{number}"
        ready += [MakeDirectory(place), MountAt("tmpfs", place, NOSUID | NODEV | scratch.flags, scratch.options)]
        attach.append(AttachVolume(place, scratch.target))
    if not ready:
        return ()
    return (MakeDirectory(_STAGED), *ready, *sorted(attach, key=lambda step: step.target.count("/")))


def not_held(wanted: RunSpec) -> tuple[str, ...]:
    """What was asked of a sandbox and can't be held in its volumes, in sentences."""
    volumes = tuple(parse_volume(text, "/") for text in wanted.volumes)
    writable = ", ".join(each.target for each in volumes if not each.read_only)
    everywhere = ", ".join(each.target for each in volumes)
    said = []
    if wanted.disk and writable:
        said.append(f"--disk: what is written to {writable} isn't counted")
    if wanted.audit and volumes:
        said.append(f"--audit: what is done in {everywhere} isn't recorded")
    if writable:
        said.append(
            f"what runs by itself: in {writable} it is held at the top and where it was in the first directories at the"
            " start; one that is made elsewhere can have some"
        )
    if volumes:
        said.append(
            f"--hide: in {everywhere} an empty file or directory stands for what was hidden at the start; what came"
            " later, and other names of the same file, are there"
        )
    return tuple(said)


def _lies_in(path: str, hidden: str) -> bool:
    """Whether a path is at or beneath a hidden one, whose last name may have a `*`."""
    while path not in ("", "/"):
        if stands_for(hidden, path):
            return True
        path = os.path.dirname(path)
    return False
