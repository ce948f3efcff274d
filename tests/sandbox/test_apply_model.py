"""Random changes in a layer, applied, beside the same changes that rsync brings from a plain copy."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fuse_overlay import acl, xattrs
from fuse_overlay.acl import Entry
from fuse_overlay.config import Config, Extent, Lower
from fuse_overlay.metadata import Wanted
from fuse_overlay.overlay import Overlay
from rootless_sb.review import applying, assessment, choosing, owners
from rootless_sb.review.choosing import Wish
from rootless_sb.review.layer import LayerView
from tests.overlay.conftest import MAX_IDS, Driver
from tests.sandbox.reviewing import snapshot

if TYPE_CHECKING:
    from tests.conftest import Count

NOBODY = 0xFFFFFFFF  # the id in entries that need none (ACL_UNDEFINED_ID)
NAMES = ["a", "b", "c\n", "d\x1b[m"]
PLACES = [*NAMES, *(f"{above}/{name}" for above in NAMES[:2] for name in NAMES), "a/b/a", "a/b/b"]
PLACE = st.sampled_from(PLACES)
ACLS = (xattrs.ACL_ACCESS, xattrs.ACL_DEFAULT)
MODE = st.sampled_from([0o644, 0o600, 0o755, 0o700])
CHANGE = st.one_of(
    st.tuples(st.just("write"), PLACE, st.binary(max_size=3)),
    st.tuples(st.just("mkdir"), PLACE),
    st.tuples(st.just("symlink"), PLACE, st.sampled_from(["a", "nowhere"])),
    st.tuples(st.just("remove"), PLACE),
    st.tuples(st.just("chmod"), PLACE, MODE),
    st.tuples(st.just("link"), PLACE, PLACE),
    st.tuples(st.just("rename"), PLACE, PLACE),
    st.tuples(st.just("setxattr"), PLACE, st.binary(min_size=1, max_size=3)),
    st.tuples(st.just("setacl"), PLACE, st.sampled_from(ACLS), st.sampled_from([0, 5]), st.integers(0, 7)),
    st.tuples(st.just("dropacl"), PLACE, st.sampled_from(ACLS)),
)
Change = tuple[object, ...]
# Directories that hide what was in those of the same names, which chance seldom finds.
MADE_ANEW: tuple[list[Change], list[Change]] = (
    [("mkdir", "a"), ("mkdir", "a/b"), ("write", "a/b/a", b"x")],
    [("remove", "a"), ("mkdir", "a"), ("mkdir", "a/b")],
)

# ACLs with the user's own id, on what was there, on what is new, and inherited.
WITH_ACLS: tuple[list[Change], list[Change]] = (
    [("write", "a", b"x"), ("mkdir", "b"), ("setacl", "b", xattrs.ACL_ACCESS, 0, 5)],
    [
        ("setacl", "a", xattrs.ACL_ACCESS, 0, 6),
        ("chmod", "a", 0o600),
        ("setacl", "b", xattrs.ACL_DEFAULT, 0, 7),
        ("write", "b/a", b"y"),
        ("dropacl", "b", xattrs.ACL_ACCESS),
    ],
)


def acl_of(user: int, permissions: int) -> bytes:
    """An ACL in which one user has an entry of his own."""
    entries = ((acl.USER_OBJ, 7), (acl.GROUP_OBJ, 5), (acl.MASK, permissions | 4), (acl.OTHER, 4))
    named = (Entry(acl.USER, permissions, user), Entry(acl.GROUP, 4, 7))
    return acl.format_value(tuple(sorted((*named, *(Entry(tag, bits, NOBODY) for tag, bits in entries)))))


class Plain:
    """The changes on a plain directory. All raise OSError."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def at(self, path: str) -> Path:
        """Where a path is: by way of no symbolic link, which the overlay leaves to the kernel to follow."""
        if any((self.root / above).is_symlink() for above in Path(path).parents):
            raise NotADirectoryError
        return self.root / path

    def write(self, path: str, content: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(self.at(path), flags, 0o644), "wb") as file:
            file.write(content)

    def mkdir(self, path: str) -> None:
        self.at(path).mkdir(0o755)

    def symlink(self, path: str, target: str) -> None:
        self.at(path).symlink_to(target)

    def remove(self, path: str) -> None:
        subprocess.run(["rm", "-r", "--", self.at(path)], check=True, stderr=subprocess.DEVNULL)

    def chmod(self, path: str, mode: int) -> None:
        if not self.at(path).is_symlink():
            self.at(path).chmod(mode | (0o100 if self.at(path).is_dir() else 0))

    def link(self, old: str, new: str) -> None:
        os.link(self.at(old), self.at(new), follow_symlinks=False)

    def rename(self, old: str, new: str) -> None:
        os.rename(self.at(old), self.at(new))

    def setxattr(self, path: str, value: bytes) -> None:
        if not self.at(path).is_symlink():
            os.setxattr(self.at(path), "user.x", value)

    def setacl(self, path: str, name: bytes, user: int, permissions: int) -> None:
        if not self.at(path).is_symlink():
            os.setxattr(self.at(path), name, acl_of(user or os.geteuid(), permissions))

    def dropacl(self, path: str, name: bytes) -> None:
        if not self.at(path).is_symlink():
            os.removexattr(self.at(path), name)


class Layered:
    """The same on an overlay. All raise OSError."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def reach(self, path: str) -> None:
        """See that all above a path are directories, as the kernel does before it asks the overlay."""
        above = path.rpartition("/")[0]
        if above and self.driver.entry(above).node.kind != stat.S_IFDIR:
            raise NotADirectoryError

    def write(self, path: str, content: bytes) -> None:
        self.reach(path)
        self.driver.write(path, content)

    def mkdir(self, path: str) -> None:
        self.reach(path)
        self.driver.mkdir(path)

    def symlink(self, path: str, target: str) -> None:
        self.reach(path)
        self.driver.symlink(path, os.fsencode(target))

    def remove(self, path: str) -> None:
        if self.driver.entry(path).node.kind != stat.S_IFDIR:
            self.driver.unlink(path)
            return
        for name in self.driver.ls(path):
            self.remove(f"{path}/{name}")
        self.driver.rmdir(path)

    def chmod(self, path: str, mode: int) -> None:
        kind = self.driver.entry(path).node.kind
        if kind != stat.S_IFLNK:
            mode |= 0o100 if kind == stat.S_IFDIR else 0
            self.driver.overlay.setattr(self.driver.ino(path), Wanted(mode=mode))

    def link(self, old: str, new: str) -> None:
        self.reach(new)
        if self.driver.entry(old).node.kind == stat.S_IFDIR:
            raise PermissionError
        self.driver.link(old, new)

    def rename(self, old: str, new: str) -> None:
        self.reach(new)
        if new.startswith(f"{old}/"):
            raise NotADirectoryError
        self.driver.rename(old, new)

    def setxattr(self, path: str, value: bytes) -> None:
        if self.driver.entry(path).node.kind != stat.S_IFLNK:
            self.driver.overlay.setxattr(self.driver.ino(path), b"user.x", value)

    def setacl(self, path: str, name: bytes, user: int, permissions: int) -> None:
        self.driver.overlay.setxattr(self.driver.ino(path), name, acl_of(user, permissions))

    def dropacl(self, path: str, name: bytes) -> None:
        self.driver.overlay.removexattr(self.driver.ino(path), name)


def carry_out(changes: list[Change], target: Plain | Layered) -> None:
    """All that are possible."""
    for what, *arguments in changes:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            getattr(target, str(what))(*arguments)


def config(lower: Path, own: Path) -> Config:
    """An overlay over a plain tree, as over the host's."""
    ids = (Extent(0, MAX_IDS),)
    upper, work = (os.fsencode(own / part) for part in ("upper", "work"))
    return Config((Lower(os.fsencode(lower), layer=False, live=True),), upper, work, uids=ids, gids=ids)


def apply(lower: Path, own: Path) -> None:
    """Apply a layer with no regard to conflicts; afterwards nothing may differ."""
    below = config(lower, own)._replace(upper=None, work=None)
    who = owners.identity(below, os.geteuid(), os.getegid(), frozenset(os.getgroups()))
    descriptor = os.open(own, os.O_RDONLY)
    views = [LayerView(below, str(own / "upper"))]
    try:
        verdicts = assessment.assess(views[0], views[0].changes(), who, {}, 0)
        applying.apply(descriptor, views[0], str(lower), choosing.choose(verdicts, Wish("sandbox"), None), who)
        views.append(LayerView(below, str(own / "upper")))
        assert [] == views[1].changes()
    finally:
        for view in views:
            view.close()
        os.close(descriptor)


@pytest.fixture(scope="module")
def rsync() -> str:
    """The program, with the options to make one directory like another."""
    if subprocess.run(["sh", "-c", "command -v rsync"], stdout=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("rsync isn't installed")
    return "rsync -aHAX --checksum --delete"


def test_apply_makes_of_the_host_what_rsync_does(
    count: Count, rsync: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever a sandbox did to a tree: types, data, modes, links, attributes, ACLs are those of an exact copy."""

    def play(first: list[Change], then: list[Change]) -> None:
        place = tmp_path_factory.mktemp("played")
        for name in ("lower", "plain", "copy", "own/upper", "own/work"):
            (place / name).mkdir(parents=True)
        for name in ("lower", "plain", "copy"):
            carry_out(first, Plain(place / name))
        carry_out(then, Plain(place / "plain"))
        overlay = Overlay(config(place / "lower", place / "own"))
        carry_out(then, Layered(Driver(overlay)))
        overlay.close()
        apply(place / "lower", place / "own")
        subprocess.run([*rsync.split(), f"{place}/plain/", f"{place}/copy/"], check=True)
        assert snapshot(place / "copy", links=False) == snapshot(place / "lower", links=False)
        subprocess.run(["rm", "-r", place], check=True)

    tries = settings(
        max_examples=count(40, 2000),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=count(1, 0) == 1,
    )
    mask = os.umask(0)
    try:
        changes = st.lists(CHANGE, max_size=12)
        tries(example(*MADE_ANEW)(example(*WITH_ACLS)(given(changes, changes)(play))))()
    finally:
        os.umask(mask)
