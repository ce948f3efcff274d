"""The control group of one sandbox, where the caller may have one; what it holds, and its end.

There are two ways. The user's systemd makes a group for a login's process when it is asked to (`user_manager`). Or an
administrator has left a part of the hierarchy to the user: then a group is made beside the caller's own. (Beneath it
none can be: a group has either processes or limited groups, cgroups(7), "no internal processes".)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb import cgroups

if TYPE_CHECKING:
    from rootless_sb.limits import Limits

_PREFIX = "sb-"
# Beneath the group with the limits: this one is the root that a sandbox sees, who may be the owner of its files.
_INSIDE = "inside"
_TRIES = 3


class ControlGroup(NamedTuple):
    """`directory`: where its files are; `held`: the limits that it holds; `made`: by us, so it is ours to remove.
    `kills_around`: how many processes had been killed for want of memory in the group around it.
    """

    directory: str
    held: tuple[str, ...]
    made: bool
    kills_around: int

    def ended_for_memory(self) -> bool:
        """Whether its processes were killed because they used more memory than they may."""
        if "memory" not in self.held:
            return False
        events = _read(f"{self.directory}/memory.events")
        if events:
            return cgroups.kills(events) > 0
        return _kills_around(self.directory) > self.kills_around  # systemd was quicker, and has removed it

    def remove(self) -> None:
        """Remove it, once all in it have ended."""
        if self.made:
            _remove(self.directory)


def place(pid: int, identifier: str, limits: Limits, owner: tuple[int, str]) -> ControlGroup | None:
    """Put the process `pid` into a group of its own with these limits; None where that can't be done, or would hold
    nothing. `owner`: the user's id and runtime directory.
    """
    wanted = cgroups.settings(limits)
    if not wanted or not os.path.exists(f"{cgroups.ROOT}/cgroup.controllers"):
        return None
    uid, runtime = owner
    own = cgroups.own(_read("/proc/self/cgroup")) or "/"
    if cgroups.is_a_logins(own, uid) and os.path.exists(f"{runtime}/systemd/private"):
        return _ask_for_scope(pid, identifier, limits, owner)
    return _make_beside(pid, identifier, wanted, own) if uid else None


def _ask_for_scope(pid: int, identifier: str, limits: Limits, owner: tuple[int, str]) -> ControlGroup | None:
    from rootless_sb import user_manager  # not every host has one

    uid, runtime = owner
    # With a pid: one of that sandbox's earlier groups may be on its way out.
    unit = f"{_PREFIX}{identifier}-{pid}.scope"
    try:
        user_manager.make_scope(f"{runtime}/systemd/private", uid, unit, pid, cgroups.properties(limits))
    except OSError:  # it hangs, say, or is another's
        return None
    path = cgroups.own(_read(f"/proc/{pid}/cgroup")) or ""
    if not path.endswith(f"/{unit}"):
        return None
    return _described(f"{cgroups.ROOT}{path}", made=False)


def _make_beside(pid: int, identifier: str, wanted: dict[str, str], own: str) -> ControlGroup | None:
    """Make a group in the nearest one around `own`, ours, that is the user's."""
    for path in cgroups.parents(own):
        parent = f"{cgroups.ROOT}{path}"
        if not os.access(parent, os.W_OK) or not os.access(f"{parent}/cgroup.procs", os.W_OK):
            continue
        for controller in cgroups.CONTROLLERS:
            _try_to_write(f"{parent}/cgroup.subtree_control", f"+{controller}")
        _sweep(parent)
        found = _make(f"{parent}/{_PREFIX}{identifier}", pid, wanted)
        if found is not None:
            return found
    return None


def _make(directory: str, pid: int, wanted: dict[str, str]) -> ControlGroup | None:
    for _ in range(_TRIES):
        try:
            os.mkdir(directory)
            for name, value in wanted.items():
                _try_to_write(f"{directory}/{name}", value)
            os.mkdir(f"{directory}/{_INSIDE}")
            found = _described(directory, made=True)
            if found is None:  # no controller
                break
            _write(f"{directory}/{_INSIDE}/cgroup.procs", str(pid))
            return found
        except FileNotFoundError:  # another run has swept it away, empty as it was
            _remove(directory)
        except OSError:
            break
    _remove(directory)
    return None


def _described(directory: str, *, made: bool) -> ControlGroup | None:
    """The group there, if it holds anything."""
    _try_to_write(f"{directory}/{cgroups.TOGETHER[0]}", cgroups.TOGETHER[1])
    files = (*cgroups.FILES.values(), cgroups.TOGETHER[0], cgroups.SHARE)
    held = cgroups.held({name: text for name in files if (text := _read(f"{directory}/{name}").strip())})
    return ControlGroup(directory, held, made, _kills_around(directory)) if held else None


def _kills_around(directory: str) -> int:
    return cgroups.kills(_read(f"{os.path.dirname(directory)}/memory.events"))


def _sweep(parent: str) -> None:
    """Remove what sandboxes have left whose watcher was killed: one that has processes can't be removed."""
    try:
        names = os.listdir(parent)
    except OSError:
        return
    for name in names:
        if name.startswith(_PREFIX):
            _remove(f"{parent}/{name}")


def _remove(directory: str) -> None:
    for path in (f"{directory}/{_INSIDE}", directory):
        try:
            os.rmdir(path)
        except OSError:  # it has processes, or it is gone: another run has swept it away
            continue


def _try_to_write(path: str, text: str) -> None:
    try:
        _write(path, text)
    except OSError:  # there is no such controller here: what is held is looked at afterwards
        return


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _read(path: str) -> str:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall().decode("utf-8", "surrogateescape")
    except OSError:  # not here
        return ""
