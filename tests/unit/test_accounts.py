"""Who `--user` means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rootless_sb import accounts
from rootless_sb.accounts import Account
from rootless_sb.errors import SbError

PASSWD = b"root:x:0:0:root:/root:/bin/sh\nalice:x:1000:100:A:/home/alice:/bin/bash\nbroken\n1001:x:7:7::/seven:\n"
GROUP = b"root:x:0:\nusers:x:100:\naudio:x:29:alice,bob\nvideo:x:44:bob,alice\n"


@pytest.mark.parametrize(
    ("wanted", "account"),
    [
        ("alice", Account(1000, 100, (100, 29, 44), "/home/alice", "alice")),
        ("1000", Account(1000, 100, (100, 29, 44), "/home/alice", "alice")),
        ("alice:audio", Account(1000, 29, (29,), "/home/alice", "alice")),
        ("alice:5", Account(1000, 5, (5,), "/home/alice", "alice")),
        ("4242", Account(4242, 0, (0,), "/", "")),
        ("4242:4343", Account(4242, 4343, (4343,), "/", "")),
        ("1001", Account(7, 7, (7,), "/seven", "1001")),  # a name before a number
    ],
)
def test_names_and_numbers(wanted: str, account: Account) -> None:
    """As docker takes them: ids need no entry, a named group replaces all others."""
    assert account == accounts.find(wanted, PASSWD, GROUP)


@pytest.mark.parametrize(
    "wanted", ["", ":", "alice:", ":users", "nobody", "alice:nogroup", "-1", "4294967295", "\u0661"]
)
def test_who_is_nobody(wanted: str) -> None:
    """Unknown names, and numbers that are no ids."""
    with pytest.raises(SbError):
        accounts.find(wanted, PASSWD, GROUP)


# What comes near to lines of the two files, and random bytes.
FIELD = some.sampled_from(
    [b"root", b"12", b"13", b"0", b"-1", b"+1", b"4294967294", b"4294967295", b"9" * 5000, b"\xd9\xa1", b"root,12", b"",
     b" ", b"x\0", b"\xff", b"/"]
)  # fmt: skip
LINE = some.lists(FIELD, max_size=8).map(b":".join) | some.integers(4, 7).flatmap(
    lambda width: some.tuples(*[FIELD] * width).map(b":".join)
)
TABLE = some.binary() | some.lists(LINE, max_size=5).map(b"\n".join)


@given(TABLE, TABLE)
def test_hostile_tables(passwd: bytes, group: bytes) -> None:
    """Whatever the files hold, a number is an account and a name is one or a clear error; ids are such as exist."""
    assert 12 == accounts.find("12:13", passwd, group).uid or b":12:" in passwd or b"12:" in passwd
    try:
        found = accounts.find("root", passwd, group)
    except SbError:
        return
    assert "root" == found.name
    for each in (found, accounts.find("12", passwd, group)):
        assert all(0 <= number < 2**32 - 1 for number in (each.uid, *each.groups))
        assert each.gid == each.groups[0]
        assert "\0" not in each.home
        assert each.home
