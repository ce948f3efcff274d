"""Who `--user` means: ids, groups and a home from a passwd and a group file. Pure.

The files are the sandbox's own, and may be hostile: passwd(5), group(5). What isn't a line of theirs is passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGEST_ID = 0xFFFFFFFE  # the one above means "leave it as it is": setresuid(2)


class Account(NamedTuple):
    """A user inside: ids as the sandbox has them, all of their groups, and what HOME and USER are to say."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    name: str


class _User(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class _Group(NamedTuple):
    name: str
    gid: int
    members: tuple[str, ...]


def find(wanted: str, passwd: bytes, group: bytes) -> Account:
    """The account that `USER[:GROUP]` means, each a name or a number, as docker takes it.

    A number need not be in passwd: its group is 0 then and its home `/`. A user's groups are those of the group file,
    unless GROUP names the one to have. Raises SbError: unknown, say.
    """
    called, colon, called_group = wanted.partition(":")
    if not called or (colon and not called_group):
        raise SbError(f"--user {wanted}", "not a user", "--user NAME, UID, NAME:GROUP or UID:GID")
    user = _user(called, passwd)
    if colon:
        gid = _group_id(called_group, group)
        groups: tuple[int, ...] = (gid,)
    else:
        gid = user.gid
        groups = (gid, *sorted({each.gid for each in _groups(group) if user.name in each.members} - {gid}))
    return Account(user.uid, gid, groups, user.home, user.name)


def _user(called: str, passwd: bytes) -> _User:
    """A name before a number: a user may be called `1000`."""
    users = list(_users(passwd))
    number = _number(called)
    for each in users:
        if each.name == called:
            return each
    for each in users:
        if each.uid == number:
            return each
    if number is None:
        raise SbError(f"--user {called}", "no such user in the sandbox's /etc/passwd", "a number needs no entry")
    return _User("", number, 0, "/")


def _group_id(called: str, group: bytes) -> int:
    for each in _groups(group):
        if each.name == called:
            return each.gid
    number = _number(called)
    if number is None:
        raise SbError(f"--user …:{called}", "no such group in the sandbox's /etc/group", "a number needs no entry")
    return number


def _users(passwd: bytes) -> Iterator[_User]:
    """The entries of a passwd file: NAME:PASSWORD:UID:GID:COMMENT:HOME:SHELL."""
    for fields in _lines(passwd, 7):
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is not None and gid is not None:
            yield _User(fields[0], uid, gid, fields[5] or "/")


def _groups(group: bytes) -> Iterator[_Group]:
    """The entries of a group file: NAME:PASSWORD:GID:MEMBER,MEMBER."""
    for fields in _lines(group, 4):
        gid = _number(fields[2])
        if gid is not None:
            yield _Group(fields[0], gid, tuple(filter(None, fields[3].split(","))))


def _lines(table: bytes, width: int) -> Iterator[list[str]]:
    for line in table.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.split(":")
        if len(fields) == width and fields[0] and "\0" not in line:
            yield fields


def _number(text: str) -> int | None:
    """The id that a text is; None if it is none."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 10:
        return None
    return int(text) if int(text) <= _LARGEST_ID else None
