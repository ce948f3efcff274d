"""The tables of passwords that go with passwd and group, all of them locked: shadow(5), gshadow(5). Pure.

The host's own are root's alone. Without any, whoever makes an account fails: adduser, and with it packages' scripts.
"""

from __future__ import annotations

_LOCKED = b"*"  # what no password's hash can be: crypt(5), as distributions have it for their own accounts


def shadow(passwd: bytes) -> bytes:
    """A shadow file for all accounts of this passwd file; none of them ages."""
    return b"".join(b"%s:%s:::::::\n" % (fields[0], _LOCKED) for fields in _lines(passwd, 7))


def gshadow(group: bytes) -> bytes:
    """A gshadow file for all groups of this group file, with the same members and no administrators."""
    return b"".join(b"%s:%s::%s\n" % (fields[0], _LOCKED, fields[3]) for fields in _lines(group, 4))


def _lines(table: bytes, length: int) -> list[list[bytes]]:
    """The lines with so many fields, the first of each name; what stands for NIS (`+` and `-`, nsswitch.conf(5)) isn't
    a line of the file's own."""
    found: dict[bytes, list[bytes]] = {}
    for line in table.splitlines():
        fields = line.split(b":")
        if len(fields) == length and fields[0] and fields[0][:1] not in b"+-#":
            found.setdefault(fields[0], fields)
    return list(found.values())
