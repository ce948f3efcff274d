"""What runs by itself within volumes: looked up on the host, as steps; what isn't there gets a placeholder first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless_sb import unasked
from rootless_sb.errors import Doing
from rootless_sb.steps import HoldInVolume
from rootless_sb.unasked import DIRECTORY, SOCKET

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rootless_sb.placeholders import Placeholders
    from rootless_sb.steps import Step
    from rootless_sb.unasked import Unasked
    from rootless_sb.volumes import Guarded

# How far down projects are looked for, and in how many directories: somebody waits for the start.
_DEPTH = 3
_DIRECTORIES = 1000
_REPOSITORY = {"HEAD", "objects", "refs"}  # what git's own directory has: gitrepository-layout(5)
_HINT = "--show DIR leaves what runs by itself in a volume open"

_BY_NAME: dict[str, list[Unasked]] = {}
for _each in (*unasked.PROJECT, *(each for each in unasked.HOME if "/" not in each.path)):
    _BY_NAME.setdefault(unasked.first_name(_each.path), []).append(_each)


def hold(volumes: Iterable[Guarded], placeholders: Placeholders) -> tuple[Step, ...]:
    """The steps that hold in each volume what runs by itself. Raises SbError."""
    return tuple(step for volume in volumes for step in _steps(volume, placeholders))


def _steps(volume: Guarded, placeholders: Placeholders) -> list[HoldInVolume]:
    root = os.path.realpath(volume.source)
    held = _Held(volume, root, placeholders)
    if os.path.isdir(root):
        with Doing(f"cannot guard what runs by itself in {root}", _HINT):
            for base, each, make in _wanted(root, os.path.realpath(volume.home)):
                held.hold(base, each, make=make)
    return held.steps


def _wanted(root: str, home: str) -> Iterator[tuple[str, Unasked, bool]]:
    """A directory, what is to stay as it is in it, and whether it mustn't be made there either."""
    yield from ((root, each, True) for each in unasked.PROJECT)
    if home == root or _is_beneath(home, root):
        yield from ((home, each, True) for each in unasked.HOME)
    for directory, names in _directories(root):
        if names >= _REPOSITORY:
            yield from ((directory, each, True) for each in unasked.GIT)
        if ".git" in names:
            yield from ((directory, each, True) for each in unasked.PROJECT if not each.path.startswith(".git/"))
            submodules = (each for each, inside in _directories(f"{directory}/.git/modules") if inside >= _REPOSITORY)
            yield from ((submodule, each, True) for submodule in submodules for each in unasked.GIT)
        for name in sorted(names & _BY_NAME.keys()):
            yield from ((directory, each, name == ".git") for each in _BY_NAME[name])


def _directories(root: str) -> Iterator[tuple[str, set[str]]]:
    """The nearest directories of a volume, and the names in each; on its own file system, no symbolic link followed."""
    waiting = [(root, 0)] if os.path.isdir(root) else []
    device = os.stat(root).st_dev if waiting else 0
    for _ in range(_DIRECTORIES):
        if not waiting:
            return
        directory, depth = waiting.pop(0)
        try:
            with os.scandir(directory) as listed:
                entries = list(listed)
            if os.stat(directory).st_dev != device:
                continue
        except OSError:
            continue
        names = {entry.name for entry in entries}
        yield directory, names
        if depth < _DEPTH and not names >= _REPOSITORY:
            waiting += [(entry.path, depth + 1) for entry in entries if _is_inner(entry)]


def _is_inner(entry: os.DirEntry[str]) -> bool:
    return entry.name != ".git" and entry.is_dir(follow_symlinks=False)


class _Held:
    """The steps that hold what is there, each name once, those above first."""

    def __init__(self, volume: Guarded, root: str, placeholders: Placeholders) -> None:
        self._place = volume.place
        self._shown = [os.path.realpath(path) for path in volume.shown]
        self._root = root
        self._placeholders = placeholders
        self._known: dict[str, bool] = {}  # paths in the volume, and whether they are read-only
        self.steps: list[HoldInVolume] = []

    def hold(self, base: str, each: Unasked, *, make: bool) -> None:
        """Hold what is at a path in the directory `base`, and pin the directories between. Raises OSError."""
        if self._is_shown(f"{base}/{each.path}"):
            return
        path = os.path.realpath(base)
        if path != self._root and not _is_beneath(path, self._root):
            return  # what was looked through is by now, or always was, a link out of the volume
        if "/.git/" in base:  # a submodule's, which is reached by way of the project's own
            self._pin_above(f"{path}/{each.path}")
        names = each.path.split("/")
        for count, name in enumerate(names, 1):
            path = f"{path.rstrip('/')}/{name}"
            last = count == len(names)
            if not os.path.lexists(path) and not make:
                return
            if not self._take(path, each, last=last):
                return
            if os.path.islink(path):
                self._add(path, read_only=True)
                path = os.path.realpath(path)
                if not _is_beneath(path, self._root):
                    return
                self._pin_above(path)
            self._add(path, read_only=last or not os.path.isdir(path))
            if not os.path.isdir(path):
                return

    def _take(self, path: str, each: Unasked, *, last: bool) -> bool:
        """See that something is at a path, and stays there; whether it is."""
        if last:
            return self._placeholders.take(path, each.kind, each.content)
        return self._placeholders.take(path, DIRECTORY if each.parents else SOCKET)

    def _is_shown(self, path: str) -> bool:
        return any(path == shown or _is_beneath(path, shown) for shown in self._shown)

    def _pin_above(self, path: str) -> None:
        """See that the directories between the volume's and a path stay where they are."""
        names = path[len(self._root) :].strip("/").split("/")
        for count in range(1, len(names)):
            self._add("/".join((self._root.rstrip("/"), *names[:count])), read_only=False)

    def _add(self, path: str, *, read_only: bool) -> None:
        inside = path[len(self._root) :].lstrip("/")
        if inside not in self._known or (read_only and not self._known[inside]):
            self._known[inside] = read_only
            self.steps.append(HoldInVolume(self._place, inside, read_only))


def _is_beneath(path: str, directory: str) -> bool:
    return path.startswith(f"{directory.rstrip('/')}/")
