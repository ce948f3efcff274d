"""The overlay's pure modules: merging, ownership, marks, attributes, policy, numbers."""

from __future__ import annotations

import errno
import os
import stat
from typing import cast

import pytest

from fuse_overlay import merge, ownership, policy, whiteout, xattrs
from fuse_overlay.config import Config, Extent, Lower, pack, unpack
from fuse_overlay.creation import Caller, of_new
from fuse_overlay.inodes import Node, Numbers, Table
from fuse_overlay.layers import Layer
from fuse_overlay.merge import Scan
from fuse_overlay.ownership import IdMap, Owner

NO_LAYER = cast(Layer, None)


def test_a_configuration_survives_the_socket() -> None:
    """unpack gives back what pack was given, with its types."""
    config = Config(
        (Lower(b"/", layer=False, live=True), Lower(b"/l\xff", layer=True, live=False)),
        b"/u",
        b"/w",
        (b"/secret",),
        own_uid=1000,
        uids=(Extent(0, 1), Extent(1, 65535)),
    )
    again = unpack(pack(config))
    assert config == again
    assert (Lower, Extent) == (type(again.lowers[0]), type(again.uids[0]))


def test_listings_merge_from_the_top() -> None:
    """Each name comes once with its topmost layer; marks act downwards and are unseen."""
    scans = [
        Scan([b"a", b".wh.b", b"gone", b"b"], {b"gone"}, layer=True, mark_names=True),
        Scan([b"a", b"b", b"gone", b"c", b".wh..wh..opq"], set(), layer=True, mark_names=True),
        Scan([b"b", b"d", b".wh.x"], set(), layer=False, mark_names=False),
    ]
    assert {b"a": 0, b"b": 0, b"c": 1, b"d": 2, b".wh.x": 2} == merge.merge(scans)


def test_marks() -> None:
    """A `.wh.` file stands for one name; those with two prefixes for the directory."""
    assert b"x" == whiteout.hidden_by(b".wh.x")
    assert whiteout.hidden_by(b".wh..wh..opq") is None
    assert whiteout.is_mark(whiteout.mark_of(b"x"))
    assert not whiteout.is_whiteout(os.stat("/dev/null"))


def test_ids_are_shown_by_what_exists_inside() -> None:
    """Our own id is shown as asked, existing ids as they are, all others as our own."""
    ids = IdMap([1000], 0, (Extent(0, 1), Extent(1, 10)))
    assert [0, 0, 5, 0, 0] == [ids.shown(host) for host in (1000, 0, 5, 11, 65534)]
    assert [True, True, False] == [ids.exists(inside) for inside in (0, 10, 11)]
    assert [7, 0] == [ids.admitted(inside) for inside in (7, 99)]
    keep = IdMap([1000], 1000, (Extent(1000, 1),))
    assert [1000, 1000, 1000] == [keep.shown(host) for host in (1000, 0, 5)]
    several = IdMap([1000, 5], 0, (Extent(0, 1), Extent(1, 10)))  # though there is a 5 inside, it is another one
    assert [0, 0, 6] == [several.shown(host) for host in (1000, 5, 6)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"0:0:0755", Owner(0, 0, 0o755)),
        (b"5:6:04755:file", Owner(5, 6, 0o4755)),
        (b"5:6:100644", Owner(5, 6, 0o644)),
        (b"5:6", None),
        (b"a:6:0644", None),
        (b"-1:6:0644", None),
        (b"4294967295:0:0644", None),
        (b"0:0:09", None),
        (b"", None),
    ],
)
def test_records_are_read_with_care(value: bytes, expected: Owner | None) -> None:
    """What is malformed counts as no record."""
    assert expected == ownership.parse_record(value)


def test_records_come_back() -> None:
    """What is written reads as the same."""
    owner = Owner(12, 34, 0o4711)
    assert owner == ownership.parse_record(ownership.format_record(owner))


def test_real_modes_let_the_user_in() -> None:
    """Real files are at least 0600, directories 0700, and nothing is setuid, setgid or sticky."""
    assert 0o600 == ownership.real_mode(stat.S_IFREG, 0)
    assert 0o755 == ownership.real_mode(stat.S_IFREG, 0o6755)
    assert 0o777 == ownership.real_mode(stat.S_IFDIR, 0o1077)


def test_new_files_in_setgid_directories() -> None:
    """They have the directory's group; new directories the bit too."""
    parent = Owner(0, 50, 0o2775)
    caller = Caller(1, 2, umask=0o022)
    assert Owner(1, 50, 0o644) == of_new(stat.S_IFREG | 0o666, caller, parent, None).owner
    assert Owner(1, 50, 0o2755) == of_new(stat.S_IFDIR | 0o777, caller, parent, None).owner
    assert Owner(1, 2, 0o755) == of_new(stat.S_IFDIR | 0o777, caller, parent._replace(mode=0o775), None).owner


def test_a_new_owner_takes_privilege_away() -> None:
    """setuid goes, setgid unless it means mandatory locking, and directories keep theirs."""
    assert 0o755 == ownership.without_privilege(stat.S_IFREG, 0o6755)
    assert 0o2644 == ownership.without_privilege(stat.S_IFREG, 0o6644)
    assert 0o2755 == ownership.without_privilege(stat.S_IFDIR, 0o2755)
    assert [0o644, 0o755, 0o2644] == [ownership.after_order(stat.S_IFREG, mode) for mode in (0o2644, 0o6755, 0o6644)]


@pytest.mark.parametrize(
    ("name", "visible", "refusal"),
    [
        (b"user.anything", True, 0),
        (b"user.overlay.opaque", False, errno.EPERM),
        (b"user.fuseoverlayfs.opaque", False, errno.EPERM),
        (b"user.containers.override_stat", False, errno.EPERM),
        (xattrs.ORIGIN, False, errno.EPERM),
        (b"trusted.overlay.opaque", False, errno.EPERM),
        (b"system.posix_acl_access", False, 0),
        (b"security.capability", False, 0),
        (b"user.fuse-overlay.capability", False, errno.EPERM),
        (b"system.nfs4_acl", False, errno.EOPNOTSUPP),
        (b"security.selinux", False, 0),
        (b"user.fuse-overlay.security.selinux", False, errno.EPERM),
    ],
)
def test_which_attributes_are_for_the_inside(name: bytes, visible: bool, refusal: int) -> None:
    """user.* is, but for what an overlay gives a meaning to."""
    assert (visible, refusal) == (xattrs.visible(name), xattrs.refusal(name))


MOUNTINFO = b"""\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /proc rw,nosuid shared:2 master:1 - proc proc rw
24 22 0:5 / /dev rw - tmpfs none rw,size=64k
25 22 0:40 / /tmp rw - tmpfs tmpfs rw
26 22 0:41 / /home rw - autofs auto.home rw
malformed
"""


def test_file_systems_by_device() -> None:
    """The mount table says which devices are pseudo; a tmpfs on /dev is one, elsewhere not."""
    kinds = policy.file_systems(MOUNTINFO)
    pseudo = {minor for minor in (21, 5, 40, 41) if kinds[os.makedev(0, minor)] in policy.PSEUDO}
    assert {21, 5} == pseudo
    assert "ext4" == kinds[os.makedev(254, 0)]


def test_hidden_paths_are_found_in_their_lowers() -> None:
    """A path is relative to each lower that it lies beneath."""
    lowers = [Lower(b"/", layer=False, live=True), Lower(b"/srv/image/", layer=False, live=False)]
    hidden = policy.hidden_paths(lowers, {b"/srv/image/etc//key": b"/key", b"/home/me/.ssh/": b"/h"})
    assert {(0, b"srv/image/etc/key"): b"/key", (1, b"etc/key"): b"/key", (0, b"home/me/.ssh"): b"/h"} == hidden.paths
    assert all(hidden.names.fullmatch(name) for name in (b"key", b".ssh"))
    assert not hidden.names.fullmatch(b"keys")
    with pytest.raises(ValueError, match="absolute"):
        policy.hidden_paths(lowers, {b"relative": b"relative"})


def test_hidden_patterns() -> None:
    """`*` in the last component stands for anything, line breaks included; all else means itself."""
    asked = {path: path for path in (b"/tmp/cc_*", b"/a*/b[c]", b"/x*y*")}
    hidden = policy.hidden_paths([Lower(b"/", layer=False, live=True)], asked)
    for path in (b"tmp/cc_", b"tmp/cc_\n1", b"a*/b[c]", b"xaybz"):
        assert hidden.mean(0, path) is not None
    for path in (b"tmp/cc", b"cc_1", b"tmp/sub/cc_1", b"aa/b[c]", b"a*/bc", b"xab"):
        assert hidden.mean(0, path) is None


def test_no_hidden_path_matches_nothing() -> None:
    """Without hidden paths no name is a candidate."""
    assert not policy.hidden_paths([Lower(b"/", layer=False, live=True)], {}).names.fullmatch(b"x")


def test_read_only_paths() -> None:
    """With a path go all directories above it."""
    found = policy.read_only_paths([b"/a/b//c/", b"/a/d"])
    assert (frozenset((b"a/b/c", b"a/d")), frozenset((b"a", b"a/b"))) == (found.paths, found.above)
    assert {b"a", b"b", b"c", b"d"} == found.names


def test_numbers_are_told_apart_by_device() -> None:
    """A thousand devices with the same real number give a thousand numbers below 2**63."""
    numbers = Numbers(lambda *_: None)
    given = {numbers.derive((device, 2)) for device in range(1000)}
    assert (1000, True) == (len(given), all(1 < number < 2**63 for number in given))
    assert numbers.fresh() not in given


def test_the_table_lets_go_from_below() -> None:
    """A directory stays as long as a node beneath it does, then both go."""
    released: list[Node] = []
    table = Table(released.append, Numbers(lambda *_: None))
    root = Node(1, stat.S_IFDIR, (0, 1), None, b"", NO_LAYER)
    table.nodes[1] = root
    directory = Node(0, stat.S_IFDIR, (0, 2), root, b"d", NO_LAYER)
    file = Node(0, stat.S_IFREG, (0, 3), directory, b"f", NO_LAYER)
    table.add(directory, 2)
    table.add(file, 2)
    assert directory.ino != file.ino
    directory.lookups = file.lookups = 1
    table.forget(directory, 1)
    assert [] == released
    table.forget(file, 1)
    assert ([file, directory], 1) == (released, len(table))


def test_a_file_with_two_names_keeps_the_other() -> None:
    """When the first name goes, a known alias takes its place."""
    table = Table(lambda node: None, Numbers(lambda *_: None))
    root = Node(1, stat.S_IFDIR, (0, 1), None, b"", NO_LAYER)
    table.nodes[1] = root
    file = Node(0, stat.S_IFREG, (0, 3), root, b"a", NO_LAYER)
    table.add(file, 3)
    table.add_alias(file, root, b"b")
    assert table.drop_name(file, root, b"a")
    assert b"b" == file.name
    assert not table.drop_name(file, root, b"b")
