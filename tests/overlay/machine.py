"""A hypothesis state machine that does the same acts in several places, and compares what comes of them after each.

A subclass says where: how the places are made from layers, and how an act is done in all of them.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from fuse_overlay.kernel import paths
from tests.overlay.acts import differences

if TYPE_CHECKING:
    from tests.overlay.acts import Act, Picture

NAMES = st.sampled_from(("a", "b", "c"))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
# Which one of what is there is meant: the number wraps round.
PICKS = st.integers(0, 30)
DEPTH = 3
SLOTS = st.integers(0, 2)
FLAGS = st.sampled_from((0, 0, paths.RENAME_NOREPLACE, paths.RENAME_EXCHANGE))
SIZES = st.sampled_from((0, 1, 5, 4096, 70_000))
DATA = st.binary(min_size=1, max_size=8)
TIMES = st.integers(1, 10**18)
XATTRS = st.sampled_from(("user.one", "user.two"))
WRITE_FLAGS = st.sampled_from((0, os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_CREAT | os.O_TRUNC, os.O_APPEND))
OPEN_FLAGS = st.sampled_from((os.O_RDONLY, os.O_RDONLY, os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_TRUNC))

# A layer: what is at each name, as plant_layer takes it. Marks are whiteouts of both formats and an opaque directory.
LEAVES = st.one_of(DATA, st.just("nowhere"))
MARKS = st.one_of(LEAVES, st.none())


def _trees(leaves: st.SearchStrategy[Any], *, marks: bool) -> st.SearchStrategy[dict[str, Any]]:
    names = ("a", "b", "c", *((".wh.a", ".wh..wh..opq") if marks else ()))
    files = st.just(b"")
    return st.recursive(
        st.dictionaries(NAMES, leaves, max_size=3),
        lambda inner: st.fixed_dictionaries(
            {}, optional={name: files if name.startswith(".wh.") else st.one_of(leaves, inner) for name in names}
        ),
        max_leaves=4,
    )


# From the top down, and pairs of names for hard links in each.
LINKS = st.lists(st.tuples(PATHS, PATHS), max_size=2)
LAYERS = st.tuples(
    st.lists(st.tuples(_trees(MARKS, marks=True), LINKS), max_size=2), st.tuples(_trees(LEAVES, marks=False), LINKS)
).map(lambda layers: [*layers[0], layers[1]])


class Machine(RuleBasedStateMachine):
    """The rules. A subclass has `begin`, `act` and `restart`, and calls `check` in them."""

    # Modes of files and of directories: all that the places can have in common.
    file_modes: tuple[int, ...] = (0o600, 0o640, 0o755)
    directory_modes: tuple[int, ...] = (0o700, 0o755, 0o2755, 0o1777)
    ids: tuple[int, ...] = (-1, 0)

    def __init__(self) -> None:
        super().__init__()
        self.pictures: tuple[Picture, Picture] = ({}, {})

    def begin(self, layers: list[tuple[dict[str, Any], list[tuple[str, str]]]]) -> tuple[Picture, Picture]:
        """Make the places. Returns what is in them."""
        raise NotImplementedError

    def act(self, act: Act) -> tuple[tuple[object, object], tuple[Picture, Picture]]:
        """Do an act in both places. Returns what it ended with, and what is in them then."""
        raise NotImplementedError

    def restart(self) -> tuple[Picture, Picture]:
        """End the overlay and mount the same layers again."""
        raise NotImplementedError

    def do(self, *act: object) -> None:
        """Do an act in both places and compare."""
        (one, other), pictures = self.act(act)
        assert one == other, f"{act} is {one} and {other}"
        found = differences(self.pictures, pictures, self.touched(act, pictures[0]))
        assert [] == found, f"{act}: {found}"
        self.pictures = pictures

    def touched(self, act: Act, picture: Picture) -> tuple[str, ...]:
        """The paths whose ctime an act must have moved, if it did so in the right place."""
        if act[0] in ("unlink", "rename"):
            return ()  # other names of the same lower file can't be told
        paths = tuple(part for part in act[1:] if isinstance(part, str) and part in picture)
        if act[0] in ("chmod", "chown"):  # to what a lower file shows already: no reason for a copy-up
            return tuple(path for path in paths if picture[path].same != self.pictures[0][path].same)
        return paths

    def kind(self, path: str) -> int:
        """The type of what is at a path, S_IFMT bits; 0 for nothing."""
        seen = self.pictures[0].get(path)
        return int(seen.same[0]) if seen is not None else 0

    @initialize(layers=LAYERS)
    def start(self, layers: list[tuple[dict[str, Any], list[tuple[str, str]]]]) -> None:
        self.pictures = self.begin(layers)
        assert [] == differences(self.pictures, self.pictures, ())

    def there(self, pick: int, *kinds: int) -> str | None:
        """One of the paths at which there is something, of these kinds if any are named."""
        found = sorted(path for path, seen in self.pictures[0].items() if not kinds or seen.same[0] in kinds)
        return found[pick % len(found)] if found else None

    def place(self, pick: int, name: str) -> str:
        """A name, free or taken, in one of the directories."""
        above = self.there(pick, stat.S_IFDIR) if pick % 3 else None
        return f"{above}/{name}" if above and above.count("/") < DEPTH else name

    @rule(pick=PICKS, name=NAMES, flags=WRITE_FLAGS, offset=SIZES, data=DATA)
    def write(self, pick: int, name: str, flags: int, offset: int, data: bytes) -> None:
        path = self.place(pick, name)
        if self.kind(path) not in (stat.S_IFIFO, stat.S_IFSOCK):
            self.do("write", path, flags, offset, data)

    @rule(pick=PICKS, flags=WRITE_FLAGS, offset=SIZES, data=DATA)
    def write_again(self, pick: int, flags: int, offset: int, data: bytes) -> None:
        path = self.there(pick, stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR)
        if path:
            self.do("write", path, flags, offset, data)

    @rule(pick=PICKS, size=SIZES)
    def truncate(self, pick: int, size: int) -> None:
        path = self.there(pick, stat.S_IFREG)
        if path:
            self.do("truncate", path, size)

    @rule(pick=PICKS, name=NAMES, mode=st.sampled_from((0o755, 0o700)))
    def mkdir(self, pick: int, name: str, mode: int) -> None:
        self.do("mkdir", self.place(pick, name), mode)

    @rule(pick=PICKS, name=NAMES)
    def symlink(self, pick: int, name: str) -> None:
        self.do("symlink", self.place(pick, name))

    @rule(pick=PICKS, name=NAMES, kind=st.sampled_from((stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG)))
    def mknod(self, pick: int, name: str, kind: int) -> None:
        self.do("mknod", self.place(pick, name), kind)

    @rule(old=PICKS, pick=PICKS, name=NAMES)
    def link(self, old: int, pick: int, name: str) -> None:
        path = self.there(old, stat.S_IFREG, stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK)
        if path:
            self.do("link", path, self.place(pick, name))

    @rule(pick=PICKS, name=NAMES)
    def unlink(self, pick: int, name: str) -> None:
        self.do("unlink", self.there(pick) or name)

    @rule(pick=PICKS, name=NAMES)
    def rmdir(self, pick: int, name: str) -> None:
        self.do("rmdir", self.there(pick, stat.S_IFDIR) or name)

    @rule(old=PICKS, pick=PICKS, name=NAMES, flags=FLAGS)
    def rename(self, old: int, pick: int, name: str, flags: int) -> None:
        self.move(self.there(old) or name, self.place(pick, name), flags)

    @rule(one=PICKS, other=PICKS, flags=FLAGS)
    def rename_over(self, one: int, other: int, flags: int) -> None:
        self.move(self.there(one) or "a", self.there(other) or "b", flags)

    def move(self, old: str, new: str, flags: int) -> None:
        """Rename, unless the kernel refuses it before the file system is asked."""
        if not f"{new}/".startswith(f"{old}/") and not f"{old}/".startswith(f"{new}/"):
            self.do("rename", old, new, flags)

    @rule(pick=PICKS, mode=PICKS)
    def chmod(self, pick: int, mode: int) -> None:
        path = self.there(pick, stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFSOCK)
        if path:
            modes = self.directory_modes if self.kind(path) == stat.S_IFDIR else self.file_modes
            self.do("chmod", path, modes[mode % len(modes)])

    @rule(pick=PICKS, uid=PICKS, gid=PICKS)
    def chown(self, pick: int, uid: int, gid: int) -> None:
        path = self.there(pick)
        if path:
            self.do("chown", path, self.ids[uid % len(self.ids)], self.ids[gid % len(self.ids)])

    @rule(pick=PICKS, atime=TIMES, mtime=TIMES)
    def utimens(self, pick: int, atime: int, mtime: int) -> None:
        path = self.there(pick)
        if path:
            self.do("utimens", path, atime, mtime)

    @rule(pick=PICKS, name=XATTRS, value=DATA, flags=st.sampled_from((0, 0, os.XATTR_CREATE, os.XATTR_REPLACE)))
    def setxattr(self, pick: int, name: str, value: bytes, flags: int) -> None:
        path = self.there(pick)
        if path:
            self.do("setxattr", path, name, value, flags)

    @rule(pick=PICKS, name=XATTRS)
    def removexattr(self, pick: int, name: str) -> None:
        path = self.there(pick)
        if path:
            self.do("removexattr", path, name)

    @rule(slot=SLOTS, pick=PICKS, flags=OPEN_FLAGS)
    def open(self, slot: int, pick: int, flags: int) -> None:
        path = self.there(pick, stat.S_IFREG)
        if path:
            self.do("open", slot, path, flags)

    @rule(slot=SLOTS, offset=SIZES, data=DATA)
    def write_to_slot(self, slot: int, offset: int, data: bytes) -> None:
        self.do("pwrite", slot, offset, data)

    @rule(slot=SLOTS, size=SIZES)
    def truncate_slot(self, slot: int, size: int) -> None:
        self.do("ftruncate", slot, size)

    @rule(slot=SLOTS, mode=PICKS)
    def chmod_slot(self, slot: int, mode: int) -> None:
        self.do("fchmod", slot, self.file_modes[mode % len(self.file_modes)])

    @rule(slot=SLOTS)
    def look_at_slot(self, slot: int) -> None:
        self.do("seen_by", slot)

    @rule(slot=SLOTS)
    def close(self, slot: int) -> None:
        self.do("close", slot)

    @rule()
    def forget(self) -> None:
        self.do("forget")

    @rule()
    def start_again(self) -> None:
        pictures = self.restart()
        found = differences(self.pictures, pictures, ())
        assert [] == found, f"restart: {found}"
        self.pictures = pictures


def run(machine: type[Machine], examples: int, steps: int, *, long: bool) -> None:
    """Run a machine so many times with so many steps each; always the same ones, unless `long`."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=not long,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
