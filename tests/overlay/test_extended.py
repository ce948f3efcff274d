"""Extended attributes, ACLs and file capabilities, without a mount."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from fuse_overlay import acl, xattrs
from fuse_overlay.acl import GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, Entry
from fuse_overlay.metadata import Wanted

if TYPE_CHECKING:
    from fuse_overlay.attributes import File
    from tests.overlay.conftest import Driver, Stage

NONE = 0xFFFFFFFF
ACL = (
    Entry(USER_OBJ, 6, NONE), Entry(USER, 7, 12), Entry(GROUP_OBJ, 4, NONE), Entry(MASK, 6, NONE), Entry(OTHER, 0, NONE)
)  # fmt: skip
VALUE = acl.format_value(ACL)
# struct vfs_ns_cap_data (linux/capability.h), revision 3: cap_net_raw for root id 0.
CAPABILITY = bytes.fromhex("0100000300200000000000000000000000000000") + bytes(4)


def test_capabilities_are_data(stage: Stage) -> None:
    """They are kept under a name of ours, listed under the real one, and survive a restart, a chmod and a rename."""
    lower = stage.lower("lower", {"f": b"x"})
    driver = stage.over(lower)
    driver.overlay.setxattr(driver.ino("f"), xattrs.CAPABILITY, CAPABILITY)
    driver.set("f", mode=0o755)
    driver.rename("f", "g")
    for shown in (driver, stage.over(lower)):
        assert CAPABILITY == shown.overlay.getxattr(shown.ino("g"), xattrs.CAPABILITY)
        assert [xattrs.CAPABILITY] == shown.overlay.listxattr(shown.ino("g"))
    assert CAPABILITY == os.getxattr(stage.upper / "g", "user.fuse-overlay.capability")


@pytest.mark.parametrize("change", ["write", "truncate", "open", "chown"])
def test_what_takes_capabilities_and_setuid_away(stage: Stage, change: str) -> None:
    """A write, a change of size or of owner does, at once and for good."""
    lower = stage.lower("lower", {"f": b"content"})
    driver = stage.over(lower)
    ino = driver.ino("f")
    driver.overlay.setxattr(ino, xattrs.CAPABILITY, CAPABILITY)
    driver.set("f", mode=0o6755)
    if change == "truncate":
        driver.overlay.setattr(ino, Wanted(size=1))
    elif change == "chown":
        driver.set("f", uid=5)
    else:
        fd = driver.overlay.open(ino, os.O_WRONLY | (os.O_TRUNC if change == "open" else 0)).handle
        if change == "write":
            assert 0o6755 == driver.entry("f").owner.mode
            driver.overlay.write(fd, b"x", 0)
        driver.overlay.release(fd)
    for shown in (driver, stage.over(lower)):
        assert 0o755 == shown.entry("f").owner.mode
        assert [] == shown.overlay.listxattr(shown.ino("f"))


def test_capabilities_that_are_set_while_the_file_is_open(stage: Stage) -> None:
    """Data that was written before, and comes from the kernel's cache only then, doesn't take them away."""
    driver = stage.over(stage.lower("lower", {}))
    driver.write("f", b"")
    fd = driver.overlay.open(driver.ino("f"), os.O_WRONLY).handle
    driver.overlay.setxattr(driver.ino("f"), xattrs.CAPABILITY, CAPABILITY)
    driver.overlay.write(fd, b"x", 0)
    driver.overlay.release(fd)
    assert [xattrs.CAPABILITY] == driver.overlay.listxattr(driver.ino("f"))


def test_an_acl_and_the_mode_are_one(stage: Stage) -> None:
    """Setting an ACL sets the mode, chmod the ACL's mask; a minimal ACL is a mode and nothing else."""
    lower = stage.lower("lower", {"f": b"x"})
    driver = stage.over(lower)
    ino = driver.ino("f")
    driver.overlay.setxattr(ino, xattrs.ACL_ACCESS, VALUE)
    assert 0o660 == driver.entry("f").owner.mode
    driver.set("f", mode=0o4751)
    for shown in (driver, stage.over(lower)):
        parsed = acl.parse(shown.overlay.getxattr(shown.ino("f"), xattrs.ACL_ACCESS))
        assert parsed is not None
        assert ([7, 7, 4, 5, 1], 0o4751) == ([entry.permissions for entry in parsed], shown.entry("f").owner.mode)
    minimal = acl.format_value(tuple(entry for entry in ACL if entry.tag in (USER_OBJ, GROUP_OBJ, OTHER)))
    driver.overlay.setxattr(ino, xattrs.ACL_ACCESS, minimal)
    assert ([], 0o4640) == (driver.overlay.listxattr(ino), driver.entry("f").owner.mode)
    driver.overlay.removexattr(ino, xattrs.ACL_ACCESS)


def test_default_acls_are_inherited(stage: Stage) -> None:
    """New files and directories have them, through copy-up and restart, and not after they were removed."""
    lower = stage.lower("lower", {"d": {}})
    driver = stage.over(lower)
    driver.overlay.setxattr(driver.ino("d"), xattrs.ACL_DEFAULT, VALUE)
    driver.mkdir("d/e", mode=0o777)
    again = stage.over(lower)
    again.write("d/e/f", b"")
    assert [xattrs.ACL_ACCESS] == again.overlay.listxattr(again.ino("d/e/f"))
    assert 0o640 == again.entry("d/e/f").owner.mode
    assert [xattrs.ACL_ACCESS, xattrs.ACL_DEFAULT] == again.overlay.listxattr(again.ino("d/e"))
    again.overlay.removexattr(again.ino("d/e"), xattrs.ACL_DEFAULT)
    again.write("d/e/g", b"")
    assert [] == again.overlay.listxattr(again.ino("d/e/g"))


def test_acls_that_cannot_be(stage: Stage) -> None:
    """What is malformed, a default ACL of a file, and any ACL of a link are refused."""
    driver = stage.over(stage.lower("lower", {"f": b"", "l": "f"}))
    for path, name, value, reason in (
        ("f", xattrs.ACL_ACCESS, b"x", "Invalid argument"),
        ("f", xattrs.ACL_DEFAULT, VALUE, "Permission denied"),
        ("l", xattrs.ACL_ACCESS, VALUE, "not supported"),
    ):
        with pytest.raises(OSError, match=reason):
            driver.overlay.setxattr(driver.ino(path), name, value)


def test_real_acls_of_a_lower_file_are_shown(stage: Stage) -> None:
    """An ACL that a file of the host has is seen inside with the ids there, and goes along at copy-up as data."""
    lower = stage.lower("host", {"f": b"x"}, layer=False, live=True)
    subprocess.run(["setfacl", "-m", f"u:{os.getuid()}:rwx,u:12:r", stage.base / "host" / "f"], check=True)
    driver = stage.over(lower)

    def ids() -> list[int]:
        parsed = acl.parse(driver.overlay.getxattr(driver.ino("f"), xattrs.ACL_ACCESS))
        assert parsed is not None
        return sorted(entry.id for entry in parsed if entry.tag == USER)

    assert ([xattrs.ACL_ACCESS], [0, 12]) == (driver.overlay.listxattr(driver.ino("f")), ids())
    driver.set("f", mtime=0)
    assert [0, 12] == ids()
    assert "system.posix_acl_access" not in os.listxattr(stage.upper / "f")


def test_a_plain_tree_keeps_nothing(stage: Stage) -> None:
    """There, a name under which a layer keeps an ACL is somebody's own, and neither shown nor obeyed."""
    for kept, shown in (("acl-access", xattrs.ACL_ACCESS), ("security.module", b"security.module")):
        for layer in (False, True):
            lower = stage.lower(kept, {"f": b"x"}, layer=layer)
            os.setxattr(stage.base / kept / "f", f"user.fuse-overlay.{kept}", VALUE)
            driver = stage.over(lower)
            assert ([shown] if layer else []) == driver.overlay.listxattr(driver.ino("f"))
            assert layer == (driver.overlay.tree.extended.read(_file(driver), shown) == VALUE)


def _file(driver: Driver) -> File:
    return driver.overlay.tree.file(driver.entry("f").node)
