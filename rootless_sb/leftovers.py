"""All sandboxes of a user on this machine: found, and those that nobody will miss removed."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb import sandboxes, state
from rootless_sb.kernel import files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless_sb.state import State

_YOUNG = 10.0  # seconds in which a directory that is being made may be without state and lock


class Found(NamedTuple):
    """A sandbox: where it lies and its state, None if that can't be read, for the reason `why`."""

    directory: str
    state: State | None
    why: str = ""


def directories(places: tuple[str, ...], uid: int) -> dict[str, str]:
    """The directory of every sandbox, by name; one that is being made or removed has a dot before its name.

    The last one of `places` is the store; what is listed elsewhere as a symlink lies under another TMPDIR.
    """
    *shared, store = places
    found: dict[str, str] = {}
    for parent in (*sandboxes.own_bases(("/var/tmp", *shared), uid), *_opened(store)):
        path = os.readlink(f"/proc/self/fd/{parent}")
        for name in os.listdir(parent):
            if sandboxes.is_id(name.removeprefix(".")):
                found[name] = _target(parent, name) or f"{path}/{name}"
        os.close(parent)
    return found


def _opened(path: str) -> list[int]:
    try:
        return [os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
    except OSError:  # nothing was ever kept, or nothing of it can be seen
        return []


def _target(parent: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:  # EINVAL: no symlink (readlink(2)); or it is gone
        return None


def everything(places: tuple[str, ...], uid: int) -> Iterator[Found]:
    """Every sandbox and its state; those that are being made or removed are left out."""
    for name, directory in directories(places, uid).items():
        if not name.startswith(".") and (found := look(directory)) is not None:
            yield found


def look(directory: str) -> Found | None:
    """One sandbox and its state; None if it is being removed or gone."""
    try:
        own = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Found(directory, None, error.strerror or str(error))
    try:
        found = sandboxes.read(own)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Found(directory, None, str(error))
    finally:
        os.close(own)
    return None if found.status == state.REMOVING else Found(directory, found)


def sweep(places: tuple[str, ...], uid: int) -> int:
    """Remove what sandboxes have left that weren't kept and whose processes were killed; how many there were."""
    sweep_placeholders(uid)
    swept = 0
    for name, directory in directories(places, uid).items():
        try:
            swept += _remove_if_dead(name, directory, uid)
        except OSError:  # it can't be removed by whoever finds it; whoever looks for it by name is told why
            continue
    return swept


def sweep_placeholders(uid: int) -> list[str]:
    """Remove what killed sandboxes have left in volumes, see `placeholders`; the paths of what couldn't be removed."""
    left: list[str] = []
    for base in sandboxes.own_bases(("/var/tmp",), uid):
        try:
            if os.access("placeholders", os.F_OK, dir_fd=base):
                from rootless_sb import placeholders

                left += placeholders.sweep(base)
        except OSError:  # the next one tries again
            pass
        os.close(base)
    return left


def _remove_if_dead(name: str, directory: str, uid: int) -> bool:
    """Remove one sandbox if it is a leftover; whether it was."""
    if not os.path.isdir(directory):
        sandboxes.forget(name, uid)
        return False
    if name.startswith(".") and time.time() - os.stat(directory).st_mtime < _YOUNG:
        return False
    sandbox = sandboxes.take(directory)
    if sandbox is None:
        return False
    if not _is_leftover(sandbox.own, hidden=name.startswith(".")):
        sandbox.close()
        return False
    sandboxes.remove(sandbox, uid)
    return True


def _is_leftover(own: int, *, hidden: bool) -> bool:
    """Whether a sandbox whose lock is free is one that nobody keeps."""
    if hidden:
        return True
    try:
        return not state.decode(files.read(own, "state")).kept
    except OSError:  # written by another version of sb: not ours to judge
        return False
