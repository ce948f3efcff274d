"""--groups: what the user's supplementary groups open is open inside, or isn't."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sandbox.running import Sandboxes

NONE = ("--groups", "none", "--")


@pytest.fixture
def place() -> Path:
    """A directory of root's with files that only a supplementary group of this user's opens: contrib/test makes it."""
    found = Path(f"/var/lib/{pwd.getpwuid(os.getuid()).pw_name}-readers")
    if not os.access(found / "file", os.R_OK) or (found / "file").stat().st_gid not in os.getgroups():
        pytest.skip("this user has no supplementary group with files of its own, as contrib/test makes it for root")
    return found


@pytest.fixture
def acl(place: Path) -> Path:
    """A file that an ACL opens to the group."""
    if not os.access(place / "acl", os.R_OK):
        pytest.skip(f"there are no ACLs in {place}")
    return place / "acl"


@pytest.mark.parametrize("userns", ["root", "single", "keep-id"])
def test_groups_open_files(sb: Sandboxes, place: Path, userns: str) -> None:
    """By default as outside, and a file of such a group is shown as the user's own group's, which is mapped."""
    script = f"cat {place}/file {place}/closed/file; stat -c %g {place}/file; id -g"
    text, again, shown, own = sb("--userns", userns, "--", "sh", "-c", script).stdout.splitlines()
    assert (text, own) == (again, shown)
    assert text == (place / "file").read_text().rstrip()
    assert 0 == sb("--group-add", "keep-groups", "cat", f"{place}/file").returncode


@pytest.mark.parametrize("userns", ["root", "single", "keep-id"])
def test_groups_open_nothing(sb: Sandboxes, place: Path, userns: str) -> None:
    """With --groups none neither a file nor a directory of theirs can be read or changed; what all may read can."""
    script = f"cd {place}; cat open; cat file; ls closed; cat closed/file; echo x >>file"
    done = sb("--userns", userns, *NONE, "sh", "-c", script)
    assert "for all\n" == done.stdout
    for refused in ("cat: file: Permission denied", "cat: closed/file: ", "cannot create file: Permission denied"):
        assert refused in done.stderr


def test_groups_open_nothing_by_acl(sb: Sandboxes, acl: Path) -> None:
    """An ACL's entry for the group counts no more than its mode; by default it does."""
    assert "" == sb(*NONE, "cat", str(acl)).stdout
    assert acl.read_text() == sb("cat", str(acl)).stdout


def test_a_later_command_has_none_either(sb: Sandboxes, place: Path) -> None:
    """What `sb start` and `sb exec` run is held to it too."""
    options = ("--name", "box", "--groups", "none", "--")
    assert 1 == sb(*options, "cat", f"{place}/file").returncode
    assert 1 == sb.command("start", "-a", "box", "cat", f"{place}/file").returncode
    assert 0 == sb.command("start", "-a", "box", "cat", f"{place}/open").returncode


def test_volumes(sb: Sandboxes, place: Path, subordinate_ids: int) -> None:
    """In a volume groups open files as well, and with --groups none they don't."""
    script = "cat /v/open; cat /v/file; cat /v/closed/file; grep Groups: /proc/self/status"
    volume = ("-v", f"{place}:/v")
    assert 3 == len(sb(*volume, "--", "sh", "-c", script).stdout.splitlines()) - 1
    done = sb(*volume, *NONE, "sh", "-c", script)
    assert ["for all", "Groups:"] == [line.strip() for line in done.stdout.splitlines()]
    assert subordinate_ids


def test_volumes_with_one_id(sb: Sandboxes, place: Path) -> None:
    """Where groups can't be given up, a volume is refused with the reason, and nothing runs."""
    options = ("--userns", "single", "-v", f"{place}:/v", "--groups", "none")
    refused = sb(*options, "--", "echo", "ran")
    assert (125, "") == (refused.returncode, refused.stdout)
    assert "can't give up a group" in refused.stderr
    assert "ran\n" == sb(*options[:4], "--", "echo", "ran").stdout


def test_contradictions(sb: Sandboxes) -> None:
    """The two options exclude each other."""
    refused = sb("--groups", "none", "--group-add", "keep-groups", "true")
    assert (125, True) == (refused.returncode, "exclude each other" in refused.stderr)
