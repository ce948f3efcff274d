"""What is decided about changes: which are risky, which are chosen, and what is done for them."""

from __future__ import annotations

import os
import stat

import pytest

from fuse_overlay import acl
from fuse_overlay.ownership import Owner
from rootless_sb import unasked
from rootless_sb.errors import SbError
from rootless_sb.review import actions, choosing, journal, leftovers, mountpoints, owners, risks
from rootless_sb.review.actions import PUT, SWAP, TAKE, TOUCH, Action, Attributes, Site
from rootless_sb.review.assessment import Verdict
from rootless_sb.review.changes import (
    ADDED,
    CHANGED,
    DATA,
    DELETED,
    MODE,
    OWNER,
    TYPE,
    XATTRS,
    Change,
    Item,
    aspects,
    chosen,
    without,
)
from rootless_sb.review.journal import COMMITTING, Journal
from rootless_sb.review.leftovers import BEFORE, PUT_ASIDE, STAYS, Left
from rootless_sb.review.owners import Identity

WHO = Identity(1000, 1000, frozenset({1000, 50}), 0, 0)


def item(kind: int = stat.S_IFREG, mode: int = 0o644, *, uid: int = 0, ino: int = 7, links: int = 1) -> Item:
    """A file, as the sandbox sees it, that belongs to uid 1000 on the host."""
    st = os.stat_result((kind | mode, ino, 1, links, 1000, 1000, 3, 0, 0, 0))
    return Item(kind, Owner(uid, 0, mode), 0, b"", st)


def added(path: bytes, what: Item | None = None) -> Change:
    """Something new."""
    return Change(ADDED, path, None, what or item())


def changed(path: bytes, *differing: str, before: Item | None = None, after: Item | None = None) -> Change:
    """Something that has changed."""
    return Change(CHANGED, path, before or item(), after or item(), differing)


def deleted(path: bytes) -> Change:
    """Something that is gone."""
    return Change(DELETED, path, item(), None)


DIRECTORY = item(stat.S_IFDIR, 0o755)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (item(), ()),
        (item(mode=0o600), (MODE,)),
        (item(uid=5), (OWNER,)),
        (DIRECTORY, (TYPE,)),
        (item(stat.S_IFREG)._replace(rdev=5), (DATA,)),
    ],
)
def test_in_what_files_differ(other: Item, expected: tuple[str, ...]) -> None:
    """Of another type nothing else is compared."""
    assert expected == aspects(item(), other, same_data=True, same_xattrs=True)


def test_data_and_attributes_differ() -> None:
    """Who has compared them says so."""
    assert (DATA, XATTRS) == aspects(item(), item(), same_data=False, same_xattrs=False)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/home/me/.bashrc",
            "/anywhere/.profile",
            "/home/me/.ssh/config",
            "/r/.git/hooks/pre-commit",
            "/r/.git/config",
        ),
        *("/r/.git/modules/m/hooks/update", "/r/.git", "/etc/cron.d/x", "/var/spool/cron/crontabs/me"),
        *("/home/me/.config/autostart/x.desktop", "/home/me/.config/systemd/user/x.service", "/etc/profile.d/x.sh"),
        *("/x/site-packages/x.pth", "/etc/sudoers", "/home/me/.config/sb/config.toml"),
        *("/home/me/.aws/config", "/home/me/.kube/config", "/home/me/.claude/settings.json", "/r/.claude/x.json"),
        *("/home/me/.docker/config.json", "/r/.vscode/tasks.json", "/r/.mcp.json", "/home/me/.npmrc"),
        *("/home/me/.gnupg/gpg-agent.conf", "/home/me/.cargo/config.toml", "/r/.git/commondir"),
        *(f"/home/me/{each.path}" for each in (*unasked.PROJECT, *unasked.HOME)),
    ],
)
def test_what_runs_by_itself(path: str) -> None:
    """A file at such a path is risky, and so is that it goes."""
    assert risks.risk(added(path.encode()))
    assert risks.risk(deleted(path.encode()))


@pytest.mark.parametrize(
    "path",
    [
        *("/home/me/bashrc", "/r/.git/hooks/x.sample", "/r/.git/index", "/r/hooks/x", "/home/me/.config/x", "/ssh"),
        *("/r/aws", "/home/me/.docker/x", "/r/.cargo/registry"),
    ],
)
def test_what_does_not(path: str) -> None:
    """Other files aren't."""
    assert not risks.risk(added(path.encode()))


def test_bits_and_devices() -> None:
    """Setuid and setgid programs that are new or changed, and devices; not one that was there and stays as it was."""
    setuid = item(mode=0o4755)
    assert risks.risk(added(b"/x", setuid))
    assert risks.risk(added(b"/x", item(mode=0o2755)))
    assert risks.risk(changed(b"/x", DATA, before=setuid, after=setuid))
    assert not risks.risk(changed(b"/x", XATTRS, before=setuid, after=setuid))
    assert not risks.risk(added(b"/x", item(stat.S_IFDIR, 0o2755)))
    assert risks.risk(added(b"/x", item(stat.S_IFCHR)))


def test_choosing_paths() -> None:
    """What is at a path and beneath it, with the new directories above; what lies in one that is left out, goes too."""
    new = [added(b"/d", DIRECTORY), added(b"/d/e", DIRECTORY), added(b"/d/e/f"), added(b"/d/g"), deleted(b"/da")]
    assert new[:3] == chosen(new, [b"/d/e/f"])
    assert new[:4] == chosen(new, [b"/d"])
    assert [] == chosen(new, [b"/x"])
    assert [new[0], new[3], new[4]] == without(new, [new[1]])
    assert new[:3] + new[4:] == without(new, [new[3]])


def verdict(change: Change, *, conflict: str = "", risk: str = "", obstacle: str = "", hidden: str = "") -> Verdict:
    """A change and what speaks against it."""
    return Verdict(change, conflict, risk, obstacle, hidden, {})


def test_choosing_by_verdicts() -> None:
    """Nothing with a conflict, then nothing that can't be done, then nothing risky that nobody has agreed to."""
    fine, clash = verdict(added(b"/a")), verdict(added(b"/b"), conflict="c")
    hindered, risky = verdict(added(b"/c"), conflict="c", obstacle="o"), verdict(added(b"/d"), risk="r")
    with pytest.raises(SbError, match="cannot apply 2 of the changes: the host has changed"):
        choosing.choose([fine, clash, hindered], choosing.Wish(), None)
    assert [fine] == choosing.choose([fine, clash, hindered], choosing.Wish("host"), None)
    assert [fine, clash] == choosing.choose([fine, clash], choosing.Wish("sandbox"), None)
    with pytest.raises(SbError, match="only root could"):
        choosing.choose([fine, hindered], choosing.Wish("sandbox"), None)
    with pytest.raises(SbError, match="the sandbox couldn't see"):
        choosing.choose([fine, verdict(added(b"/e"), hidden="h", risk="r")], choosing.Wish("sandbox"), None)
    with pytest.raises(SbError, match="what runs by itself"):
        choosing.choose([fine, risky], choosing.Wish(), None)
    assert [fine, risky] == choosing.choose([fine, risky], choosing.Wish(allow_risky=True), None)
    assert [fine] == choosing.choose([fine, risky], choosing.Wish(), lambda each: False)
    assert [fine, risky] == choosing.choose([fine, risky], choosing.Wish(), lambda each: True)


def test_what_sb_has_made_itself() -> None:
    """Mountpoints and what is above them are none of the changes, as long as they are what they were made as."""
    empty = item()._replace(st=os.stat_result((stat.S_IFREG | 0o644, 7, 1, 1, 1000, 1000, 0, 0, 0, 0)))
    listed = [
        added(b"/a", DIRECTORY),
        added(b"/a/b", DIRECTORY),
        added(b"/a/b/c", empty),
        added(b"/d", DIRECTORY),
        added(b"/d/e", item(stat.S_IFDIR, 0o700)),
        added(b"/f", DIRECTORY),
        added(b"/f/g", item()),
        deleted(b"/h"),
    ]
    made = (b"/a/b/c", b"/d/e/x", b"/f/g", b"/h")
    assert listed[3:] == mountpoints.without_made(listed, made, 0)
    assert listed == mountpoints.without_made(listed, (), 0)
    assert listed == mountpoints.without_made(listed, made, 5)


def test_what_is_done() -> None:
    """One action for each change but those in new directories, which are made there, each after what it is in."""
    listed = [
        added(b"/d-", item()),
        added(b"/d", DIRECTORY),
        added(b"/d/e"),
        changed(b"/f", DATA),
        changed(b"/g", MODE),
        changed(b"/h", MODE, before=item(links=2)),
        changed(b"/i", TYPE, after=DIRECTORY),
        added(b"/i/j"),
        deleted(b"/k/l"),
    ]
    decided = actions.decide(sorted(listed, key=lambda each: each.path), "token")
    kinds = {each.name: each.kind for each in decided.actions}
    assert {b"d-": PUT, b"d": PUT, b"f": SWAP, b"g": TOUCH, b"h": SWAP, b"i": SWAP, b"l": TAKE} == kinds
    assert (b"", b"/k") == decided.sites
    staged = {each.name: each.staged for each in decided.actions}
    spots = {change.path: spot.names for change, spot in decided.spots}
    assert {(staged[b"d"], b"e"), (staged[b"i"], b"j")} == {spots[b"/d/e"], spots[b"/i/j"]}
    made = [change.path for change, _ in decided.spots]
    assert made.index(b"/d") < made.index(b"/d/e")
    assert len(set(staged.values())) == len(staged)


def test_a_journal_there_and_back() -> None:
    """Names of any bytes, attributes, what isn't known yet."""
    touch = Action(
        TOUCH, 0, b"\xff\n", b".s", (1, 2), before=Attributes(1, 2, 3, ((b"user.x", b"\0\xff"), (b"y", None)))
    )
    swap = Action(SWAP, 0, b"x", b".t", (1, 2), (3, 4), (5, 6), clashes=True, made=(7, 8))
    notes = Journal(COMMITTING, "/", (Site(b"/\xff", (1, 2), 0o700, widened=True),), (touch, swap))
    assert notes == journal.decode(journal.encode(notes), COMMITTING)
    for damaged in (b"", b"{}", b"[]", b'{"version": 1}', b'{"version": 3}'):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
            journal.decode(damaged, COMMITTING)


def test_a_journal_of_an_older_sb() -> None:
    """One that doesn't say what was made is understood."""
    text = b"""{"version":2,"root":"/","sites":[["/x",[1,2],448,true]],
        "actions":[["swap",0,"x",".t",[1,2],[3,4],[5,6],null,null,true]]}"""
    swap = Action(SWAP, 0, b"x", b".t", (1, 2), (3, 4), (5, 6), clashes=True)
    expected = Journal(COMMITTING, "/", (Site(b"/x", (1, 2), 0o700, widened=True),), (swap,))
    assert expected == journal.decode(text, COMMITTING)


def test_what_is_left_in_words() -> None:
    """Each is one line with the names as they are on the host, to be typed; of very many some are named."""
    said = "the host has changed it since it was applied: it stays"
    assert [f"'/r/a b': {said}"] == leftovers.lines([Left(STAYS, b"/a b")], "/r")
    kept = leftovers.lines([Left(kind, b"/x", b"/.y") for kind in (STAYS, PUT_ASIDE, BEFORE)], "/")
    assert [True] * 3 == [line.startswith("/x: the host ") and "/.y" in line for line in kept]
    many = leftovers.lines([Left(BEFORE, b"/x", b"/.y")] * 13, "/")
    assert (11, "and 3 more") == (len(many), many[-1][:10])


def test_owners_on_the_host() -> None:
    """What the sandbox left as it was keeps its real owner; the user's own id comes back; others are what they are."""
    anothers = item()._replace(st=os.stat_result((0o100644, 7, 1, 1, 33, 34, 3, 0, 0, 0)))
    assert (33, 34) == owners.wanted_ids(changed(b"/x", DATA, before=anothers), WHO)
    assert (1000, 1000) == owners.wanted_ids(added(b"/x"), WHO)
    assert (5, 1000) == owners.wanted_ids(added(b"/x", item(uid=5)), WHO)
    entries = (acl.Entry(acl.USER, 4, 0), acl.Entry(acl.GROUP, 4, 9), acl.Entry(acl.OTHER, 0, 0))
    back = owners.host_acl(acl.format_value((acl.Entry(acl.USER_OBJ, 6, 0), acl.Entry(acl.GROUP_OBJ, 4, 0), *entries,
        acl.Entry(acl.MASK, 4, 0))), WHO)  # fmt: skip
    assert {(acl.USER, 1000), (acl.GROUP, 9)} <= {(each.tag, each.id) for each in acl.parse(back) or ()}


def test_entries_that_the_sandbox_did_not_see() -> None:
    """They stay in an ACL that it has changed; what it saw and took away goes."""

    def value(*named: tuple[int, int]) -> bytes:
        base = [acl.Entry(tag, 6, 0xFFFFFFFF) for tag in (acl.USER_OBJ, acl.GROUP_OBJ, acl.MASK, acl.OTHER)]
        return acl.format_value(acl.in_order([*base, *(acl.Entry(tag, 4, number) for tag, number in named)]))

    seen, real = value((acl.USER, 0), (acl.USER, 5)), value((acl.USER, 5), (acl.USER, 1000), (acl.GROUP, 70000))
    changed_to = value((acl.USER, 0), (acl.USER, 6))
    expected = value((acl.USER, 6), (acl.USER, 1000), (acl.GROUP, 70000))
    assert expected == owners.host_acl(changed_to, WHO, seen, real)
