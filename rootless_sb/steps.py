"""The steps that make a sandbox's root, as data: `plan` lists them, `builder` acts, `--dry-run` prints them.

Paths named `place` lie in the stage, a fresh tmpfs that only we write to. Paths named `target` lie in the sandbox's
root, whose tree may be hostile; they are looked up as if that root were `/`.
"""

from __future__ import annotations

from fuse_overlay.tuples import NamedTuple

EMPTY_DIRECTORY, EMPTY_FILE = "empty", "blank"  # places in the stage, of what covers others

class MountStage(NamedTuple):
    """Mount the stage, a tmpfs."""


class MountAt(NamedTuple):
    """Mount a new file system of `kind` at `place`."""

    kind: str
    place: str
    flags: int
    options: str = ""


class MakeDirectory(NamedTuple):
    """Make a directory."""

    place: str


class MakeSymlink(NamedTuple):
    """Make `place` a symlink that reads `text`."""

    place: str
    text: str


class WriteFile(NamedTuple):
    """Make a file of mode 0644 that holds `data`."""

    place: str
    data: bytes


class WriteSetting(NamedTuple):
    """Write to a file of the kernel's (sysctl) below `place`; kernels without it are left as they are."""

    place: str
    text: str


class BindDevice(NamedTuple):
    """Make the host's device node `source` appear at `place`; its mode and owner can't be changed through it."""

    source: str
    place: str


class BindHost(NamedTuple):
    """Make a file or directory of the host appear at `place`, with all that is mounted beneath it; setuid bits and
    device nodes have no effect there. It is refused if the source is or leads to something at or beneath `own`.
    """

    source: str
    place: str
    read_only: bool
    own: tuple[str, ...] = ()


class HoldInVolume(NamedTuple):
    """Mount what is at `path` in the volume at `place`, a symbolic link too, over itself: then nobody can rename or
    remove it. `read_only`: what is there and beneath can't be changed either. `path` is relative, no link on the way.
    """

    place: str
    path: str
    read_only: bool


class MakeReadOnly(NamedTuple):
    """Let nothing be written at and beneath `place`, if it is there."""

    place: str


class Mask(NamedTuple):
    """Cover what is at `place`, if it is there, with something empty of its kind that lies in the stage."""

    place: str
    directory: str
    file: str


class HideWithin(NamedTuple):
    """Cover what is now at these paths of the host (the last name may have a `*`), where it lies in the volume of
    `source` that is at `place`, with something empty of its kind. `apart`: names in it that something else goes to.
    """

    place: str
    source: str
    paths: tuple[str, ...]
    apart: tuple[str, ...]


class SetHostname(NamedTuple):
    """Name the sandbox's UTS namespace."""

    name: str


class BringLoopbackUp(NamedTuple):
    """Switch the network namespace's `lo` on."""


class OpenTerminal(NamedTuple):
    """Open a pty of the devpts that was mounted and hand its master to the supervisor."""


class Attach(NamedTuple):
    """Move the mount at `place` onto `target`, a directory in the root, no symlink; it is made if it isn't there."""

    place: str
    target: str


class AttachFile(NamedTuple):
    """Bind the file `place` over the file or symlink at `target`, wherever that leads; if `make`, over nothing too."""

    place: str
    target: str
    make: bool = False


class MakeTargetDirectory(NamedTuple):
    """Make the directory `target`, and those above it, where they aren't there."""

    target: str


class AttachVolume(NamedTuple):
    """Move the mount at `place` onto `target`; what isn't there of that path is made."""

    place: str
    target: str


class MakeRootReadOnly(NamedTuple):
    """Let nothing be written to the overlay."""


class PivotRoot(NamedTuple):
    """Make the overlay the root and let go of the host's tree."""


class IfPossible(NamedTuple):
    """Carry out a step that a sandbox can do without: some hosts forbid it."""

    step: Step


Step = (
    MountStage
    | MountAt
    | MakeDirectory
    | MakeSymlink
    | WriteFile
    | WriteSetting
    | BindDevice
    | BindHost
    | HoldInVolume
    | MakeReadOnly
    | Mask
    | HideWithin
    | SetHostname
    | BringLoopbackUp
    | OpenTerminal
    | Attach
    | AttachFile
    | MakeTargetDirectory
    | AttachVolume
    | MakeRootReadOnly
    | PivotRoot
    | IfPossible
)
