"""What of the lower layers is hidden: paths, and the same files under their other names."""

from __future__ import annotations

import itertools
import os
import stat
import time
from typing import TYPE_CHECKING

from fuse_overlay import policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuse_overlay.config import Config
    from fuse_overlay.inodes import Key, Node
    from fuse_overlay.layers import Layer

_CLOSED_DIRECTORY = stat.S_IFDIR | 0o700

# So many files of each hidden directory are looked at for other names; what is there beyond is hidden at its path only.
_SCAN_MAX = 20_000

# File systems keep times in ticks of the kernel's clock or coarser; a link made in the second of a scan may be missing.
_TICK_NS = 1_000_000_000


# A host that makes hard links all the time doesn't have us scan all the time, but for a tenth of it. A link of that
# moment may be seen until the next scan.
_PAUSE = 9

_CLEARED_MAX = 10_000


class Hiding:
    """Decides what the merged tree lacks. What is in the upper was made inside, and is never hidden.

    A file with hard links is hidden under all of its names if one of them is hidden. Which files those are in a hidden
    directory, a scan says. It is done when somebody looks up a file with more than one name that belongs to the owner
    of a hidden file or directory, and again when such a file was changed since: making a link changes st_ctime.
    """

    def __init__(self, config: Config) -> None:
        """Look up what is hidden now. Raises ValueError for a path that isn't absolute."""
        directories: dict[bytes, bytes] = {}
        # The paths as they were asked for and without symbolic links, each with the one that was asked for.
        self._wanted = {_resolved(path, directories): path for path in config.hidden}
        self._wanted |= dict(zip(config.hidden, config.hidden, strict=True))
        # What is replaced counts by its path alone: nobody is to be kept from it.
        self._paths = policy.hidden_paths(config.lowers, dict.fromkeys(config.replaced, b"") | self._wanted)
        self._directory_names = frozenset(config.hidden_names)
        self._euid = os.geteuid()
        self._keys: dict[Key, bytes] = {}  # each with the path that was asked for
        self._owners: set[int] = set()
        self._scanned = -1
        self._next_scan = 0.0  # time.monotonic()
        self._cleared: dict[Key, int] = {}  # st_ctime_ns of files that a later scan than their last change didn't find
        self._note_tops()
        self.active = bool(config.hidden or config.hidden_names or config.replaced)

    def hides(self, layer: Layer, parent: Node, name: bytes, st: os.stat_result) -> bytes | None:
        """By which hidden path, as it was asked for, what `layer` has at `name` in the directory `parent` is hidden;
        b"" if it is another overlay's, or replaced; None if it isn't hidden.
        """
        if layer.writable:
            return None
        key = (st.st_dev, st.st_ino)
        if (asked := self._keys.get(key)) is not None:
            return asked
        if name in self._directory_names and layer.live and st.st_uid == self._euid and st.st_mode == _CLOSED_DIRECTORY:
            return b""
        if st.st_nlink > 1 and st.st_uid in self._owners and not stat.S_ISDIR(st.st_mode) and self._is_linked(key, st):
            return self._keys[key]
        if not self._paths.names.fullmatch(name):
            return None
        return self._paths.mean(layer.number, parent.path_of(name))

    def _is_linked(self, key: Key, st: os.stat_result) -> bool:
        """Whether a file with several names has one in a hidden directory."""
        if self._cleared.get(key) == st.st_ctime_ns:
            return False
        if st.st_ctime_ns <= self._scanned - _TICK_NS or time.monotonic() < self._next_scan:
            return False
        begun = time.monotonic()
        self._scan()
        self._next_scan = time.monotonic() + _PAUSE * (time.monotonic() - begun)
        if key in self._keys:
            return True
        if len(self._cleared) >= _CLEARED_MAX:
            self._cleared.clear()
        self._cleared[key] = st.st_ctime_ns
        return False

    def _scan(self) -> None:
        self._scanned = time.time_ns()
        self._note_tops()
        for path, asked in self._wanted.items():
            for top in matches(path):
                found = itertools.islice(_files_below(top), _SCAN_MAX)
                self._keys |= {(st.st_dev, st.st_ino): asked for st in found if st.st_nlink > 1}

    def _note_tops(self) -> None:
        """Note which files and directories are at the hidden paths."""
        for path, asked in self._wanted.items():
            for top in matches(path):
                try:
                    st = os.lstat(top)
                    self._note(st, asked)
                    if stat.S_ISLNK(st.st_mode):
                        self._note(os.stat(top), asked)
                except OSError:
                    continue  # nothing there now, or a link to nowhere: the path alone hides what may come

    def _note(self, st: os.stat_result, asked: bytes) -> None:
        self._keys[st.st_dev, st.st_ino] = asked
        self._owners.add(st.st_uid)


def _resolved(path: bytes, directories: dict[bytes, bytes]) -> bytes:
    """The path without symbolic links, but for what a pattern may stand for. `directories`: those looked up so far,
    without links. (Many paths lie in one, and somebody waits for the start.)
    """
    directory, name = os.path.split(path.rstrip(b"/"))
    if name in (b"", b".", b".."):
        return os.path.realpath(path)
    if directory not in directories:
        directories[directory] = os.path.realpath(directory)
    place = os.path.join(directories[directory], name)
    return os.path.realpath(place) if os.path.islink(place) and not policy.is_pattern(path) else place


def matches(path: bytes) -> list[bytes]:
    """The paths that a hidden path means now."""
    if not policy.is_pattern(path):
        return [path]
    directory, name = policy.pattern_of(os.path.normpath(path))
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    wanted = policy.one_of([name])
    return [os.path.join(directory, found) for found in names if wanted.fullmatch(found)]


def _files_below(top: bytes) -> Iterator[os.stat_result]:
    """All files below a directory but directories, following no symbolic link; what can't be read is left out."""
    waiting = [top]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                listed = list(entries)
        except OSError:
            continue
        for entry in listed:
            try:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    yield entry.stat(follow_symlinks=False)
            except OSError:
                continue  # removed meanwhile
