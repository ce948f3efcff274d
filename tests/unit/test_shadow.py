"""The tables of passwords that are made of passwd and group."""

from __future__ import annotations

from rootless_sb import shadow

PASSWD = (
    b"root:x:0:0:root:/root:/bin/bash\n\nann:x:1000:1000:,,,:/home/ann:/bin/sh\n"
    b"+::::::\n#c:x:1:1:::\nbad:x\nann:x:1:1:::\n"
)
GROUP = b"root:x:0:\nstaff:x:50:ann,ben\n-nis:x:1:\nbroken\n"


def test_each_account_is_locked() -> None:
    """No password opens one; what is no line of an account is left out, and the first of a name counts."""
    assert b"root:*:::::::\nann:*:::::::\n" == shadow.shadow(PASSWD)


def test_each_group_keeps_its_members() -> None:
    """Its password is locked, and nobody may change it."""
    assert b"root:*::\nstaff:*::ann,ben\n" == shadow.gshadow(GROUP)


def test_whatever_is_in_a_table() -> None:
    """Bytes that aren't text, and none at all."""
    assert b"\xff\xfe:*:::::::\n" == shadow.shadow(b"\xff\xfe:x:1:1:::\n")
    assert (b"", b"") == (shadow.shadow(b""), shadow.gshadow(b"\0\n"))
