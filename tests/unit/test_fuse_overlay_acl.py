"""ACLs as data: reading them, what mode they show, what chmod makes of them and what new files inherit."""

from __future__ import annotations

import stat
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuse_overlay import acl, xattrs
from fuse_overlay.acl import GROUP, GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, Entry
from fuse_overlay.config import Extent
from fuse_overlay.creation import Caller, of_new
from fuse_overlay.ownership import IdMap, Owner

NONE = 0xFFFFFFFF
MINIMAL = (Entry(USER_OBJ, 6, NONE), Entry(GROUP_OBJ, 4, NONE), Entry(OTHER, 0, NONE))
NAMED = (
    Entry(USER_OBJ, 7, NONE),
    Entry(USER, 6, 1000),
    Entry(GROUP_OBJ, 5, NONE),
    Entry(GROUP, 7, 50),
    Entry(MASK, 6, NONE),
    Entry(OTHER, 1, NONE),
)
PARENT = Owner(0, 0, 0o755)


def test_an_acl_comes_back() -> None:
    """What is written reads as the same."""
    for each in (MINIMAL, NAMED):
        assert each == acl.parse(acl.format_value(each))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        acl.format_value(NAMED)[:-1],
        struct.pack("<I", 1) + acl.format_value(MINIMAL)[4:],
        acl.format_value(MINIMAL[:2]),
        acl.format_value((*MINIMAL, MINIMAL[0])),
        acl.format_value((*MINIMAL, Entry(USER, 7, 5))),
        acl.format_value((*MINIMAL, Entry(0x40, 7, 5))),
        acl.format_value((*MINIMAL[:2], Entry(OTHER, 8, NONE))),
    ],
)
def test_malformed_acls(value: bytes) -> None:
    """Half entries, other versions, missing, doubled or unknown entries, and names without a mask are no ACL."""
    assert acl.parse(value) is None


@given(st.binary(max_size=100))
def test_hostile_bytes(value: bytes) -> None:
    """Any bytes are an ACL that is written the same, or none."""
    parsed = acl.parse(value)
    assert parsed is None or value == acl.format_value(parsed)


def test_the_mode_that_is_shown() -> None:
    """The group's bits are the mask's where there is one; special bits stay."""
    assert 0o4640 == acl.mode_of(MINIMAL, 0o4777)
    assert 0o761 == acl.mode_of(NAMED, 0)
    assert (True, False) == (acl.is_minimal(MINIMAL), acl.is_minimal(NAMED))


def test_chmod_changes_the_mask() -> None:
    """With a mask the group's bits go there, and what named users and groups have stays."""
    changed = acl.after_chmod(NAMED, 0o640)
    assert 0o640 == acl.mode_of(changed, 0)
    assert NAMED[1:4] == changed[1:4]
    assert 0o751 == acl.mode_of(acl.after_chmod(MINIMAL, 0o751), 0)


def test_a_default_acl_takes_the_umasks_place() -> None:
    """A new file has the ACL restricted to the asked mode, a directory the default too, and no umask counts."""
    default = acl.format_value(NAMED)
    caller = Caller(1, 2, umask=0o077)
    file = of_new(stat.S_IFREG | 0o646, caller, PARENT, default)
    assert 0o640 == file.owner.mode
    assert [xattrs.kept_as(xattrs.ACL_ACCESS)] == list(file.attributes)
    (value,) = file.attributes.values()
    inherited = acl.parse(value)
    assert inherited is not None
    assert (0o640, NAMED[1:4]) == (acl.mode_of(inherited, 0), inherited[1:4])
    directory = of_new(stat.S_IFDIR | 0o777, caller, PARENT, default)
    assert (0o761, default) == (directory.owner.mode, directory.attributes[b"user.fuse-overlay.acl-default"])
    assert 0o600 == of_new(stat.S_IFREG | 0o666, caller, PARENT, None).owner.mode


def test_a_minimal_default_acl_is_a_mode() -> None:
    """Nothing needs to be kept of what the mode says."""
    file = of_new(stat.S_IFREG | 0o666, Caller(umask=0o077), PARENT, acl.format_value(MINIMAL))
    assert (0o640, {}) == (file.owner.mode, file.attributes)
    link = of_new(stat.S_IFLNK | 0o777, Caller(umask=0o077), PARENT, acl.format_value(NAMED))
    assert (0o777, {}) == (link.owner.mode, link.attributes)


def test_ids_of_the_host_are_translated() -> None:
    """The server's own id is shown as inside, others as they are, and those that don't exist inside are left out."""
    ids = IdMap([1000], 0, (Extent(0, 1),))
    assert [0] == [entry.id for entry in acl.mapped(NAMED, ids, ids) if entry.tag in (USER, GROUP)]
    everyone = IdMap([5], 0, (Extent(0, 1 << 16),))
    assert NAMED == acl.mapped(NAMED, everyone, everyone)


FULL = (
    Entry(USER_OBJ, 6, 0),
    Entry(USER, 7, 5),
    Entry(GROUP_OBJ, 4, 0),
    Entry(GROUP, 3, 8),
    Entry(MASK, 5, 0),
    Entry(OTHER, 2, 0),
)


@pytest.mark.parametrize(
    ("access", "ids", "bits"),
    [
        (None, (1, 2), 6),  # the owner, though the group may more
        (None, (3, 2), 7),
        (None, (3, 4), 1),
        (FULL, (1, 8), 6),  # no mask for the owner
        (FULL, (5, 2), 5),  # a named user, masked
        (FULL, (3, 2), 4),
        (FULL, (3, 8), 1),  # a named group, masked
        (FULL, (3, 4), 2),
    ],
)
def test_access_check(access: tuple[Entry, ...] | None, ids: tuple[int, int], bits: int) -> None:
    """The first of owner, named user, group and others counts, as in acl(5); the mode alone where there is no ACL."""
    assert bits == acl.allowed(access, 0o100671, ids, (1, 2))
