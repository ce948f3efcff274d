"""What is on disk of a sandbox: one directory, made at its start and removed at its end.

    DIRECTORY/upper   what the sandbox changed      DIRECTORY/root    where the watcher mounts the overlay
    DIRECTORY/work    copy-ups under way            DIRECTORY/stage   where pid 1 prepares /proc, /dev and the like
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from rootless_sb import paths
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import trees

_PARTS = ("upper", "work", "root", "stage")


class Sandbox(NamedTuple):
    """A sandbox's place on disk; `parent` is an open descriptor of the directory that holds `name`."""

    parent: int
    name: str
    directory: str


def new_id() -> str:
    """A sandbox's id: twelve hexadecimal digits, as docker's short ids."""
    return os.urandom(6).hex()


def create(places: tuple[str, ...], identifier: str, uid: int) -> Sandbox:
    """Make the directory of a new sandbox in the first of `places` that can be written to. Raises SbError."""
    refusals = []
    for place in places:
        try:
            parent, base = _open_base(place, uid)
        except SbError as error:
            refusals.append(str(error))
            continue
        try:
            with Doing(f"cannot make a sandbox in {place}"):
                os.mkdir(identifier, 0o700, dir_fd=parent)
                for part in _PARTS:
                    os.mkdir(f"{identifier}/{part}", 0o755, dir_fd=parent)
            return Sandbox(parent, identifier, f"{base}/{identifier}")
        except SbError as error:
            refusals.append(str(error))
            with Doing(f"cannot remove {base}/{identifier}"):
                trees.remove_if_there(parent, identifier)
            os.close(parent)
    raise SbError("; ".join(refusals), hint="set TMPDIR to a directory that you can write to")


def remove(sandbox: Sandbox) -> trees.Removed:
    """Remove a sandbox's directory; what was in its upper is returned. Raises OSError."""
    descriptor = os.open(sandbox.name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=sandbox.parent)
    try:
        changed = trees.remove_if_there(descriptor, "upper")
    finally:
        os.close(descriptor)
    trees.remove_tree(sandbox.parent, sandbox.name)
    return changed


def remove_wherever(places: tuple[str, ...], identifier: str, uid: int) -> None:
    """Remove the directory of a sandbox, in whichever of `places` it was made, if it was. Raises OSError."""
    for place in places:
        for name in paths.base_names(uid):
            parent = _open_own(f"{place}/{name}", uid)
            if parent is None:
                continue
            try:
                trees.remove_if_there(parent, identifier)
            finally:
                os.close(parent)


def _open_base(place: str, uid: int) -> tuple[int, str]:
    """The user's own directory in `place`, made if need be: its descriptor and its path. Raises SbError.

    `place` may be anybody's to write to (/var/tmp), so a directory of that name is only used if it is this user's and
    closed to others; else the next name is tried.
    """
    with Doing(f"cannot make a sandbox in {place}"):
        for name in paths.base_names(uid):
            path = f"{place}/{name}"
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                pass
            descriptor = _open_own(path, uid)
            if descriptor is not None:
                return descriptor, path
    raise SbError(f"cannot make a sandbox in {place}", f"{place}/sb-{uid} belongs to somebody else")


def _open_own(path: str, uid: int) -> int | None:
    """A descriptor of the directory `path`, if it is this user's and closed to others, else None. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError, NotADirectoryError):  # somebody else's, or a symlink (open(2))
        return None
    status = os.fstat(descriptor)
    if status.st_uid == uid and stat.S_IMODE(status.st_mode) & 0o077 == 0:
        return descriptor
    os.close(descriptor)
    return None
