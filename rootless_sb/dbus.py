"""Messages of D-Bus as bytes: what it takes to call one method. Pure.

The D-Bus Specification, "Message Protocol" and "Type System", https://dbus.freedesktop.org/doc/dbus-specification.html.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

METHOD_RETURN, ERROR, SIGNAL = 2, 3, 4
FIXED = 16  # bytes of a message that say how long it is

_METHOD_CALL = 1
_VERSION = 1
_PATH, _INTERFACE, _MEMBER, _DESTINATION, _SIGNATURE = 1, 2, 3, 6, 8  # header fields
_NUMBERS = {"y": "B", "u": "I", "t": "Q"}
_ALIGNMENTS = {"y": 1, "u": 4, "t": 8, "b": 4, "s": 4, "o": 4, "g": 1, "a": 4, "(": 8, "v": 1}


class Call(NamedTuple):
    """A method and its arguments: `signature` names their types, a letter or so each."""

    path: str
    interface: str
    member: str
    signature: tuple[str, ...]
    arguments: tuple[object, ...]
    destination: str = ""


class Variant(NamedTuple):
    """A value that tells its own type."""

    signature: str
    value: object


def authentication(uid: int) -> bytes:
    """What a client says first: it is this user, and then messages follow ("Authentication Protocol", EXTERNAL)."""
    return b"\0AUTH EXTERNAL " + str(uid).encode().hex().encode() + b"\r\nBEGIN\r\n"


def encode(call: Call, serial: int) -> bytes:
    """The message of a method call; `serial` isn't 0."""
    body = bytearray()
    for signature, value in zip(call.signature, call.arguments, strict=True):
        _put(body, signature, value)
    fields = [
        (_PATH, Variant("o", call.path)),
        (_INTERFACE, Variant("s", call.interface)),
        (_MEMBER, Variant("s", call.member)),
        (_SIGNATURE, Variant("g", "".join(call.signature))),
    ]
    if call.destination:
        fields.append((_DESTINATION, Variant("s", call.destination)))
    message = bytearray(struct.pack("<cBBBII", b"l", _METHOD_CALL, 0, _VERSION, len(body), serial))
    _put(message, "a(yv)", fields)
    _align(message, 8)
    return bytes(message + body)


def length(beginning: bytes) -> int:
    """The length of a whole message, from its first bytes, FIXED of them. Raises ValueError for what is no message."""
    if len(beginning) < FIXED or beginning[:1] not in (b"l", b"B"):
        raise ValueError("not a message")
    order = "<" if beginning[:1] == b"l" else ">"
    body, _, fields = struct.unpack(f"{order}III", beginning[4:FIXED])
    return int(FIXED + -(-fields // 8) * 8 + body)


def kind(message: bytes) -> int:
    """What a message is: METHOD_RETURN, say."""
    return message[1]


def _put(out: bytearray, signature: str, value: object) -> None:
    """Add one value of a complete type."""
    first = signature[0]
    _align(out, _ALIGNMENTS[first])
    if first in _NUMBERS:
        out += struct.pack(f"<{_NUMBERS[first]}", value)
    elif first == "b":
        out += struct.pack("<I", bool(value))
    elif isinstance(value, str):
        text = value.encode()
        out += struct.pack("<B" if first == "g" else "<I", len(text)) + text + b"\0"
    elif isinstance(value, Variant):
        _put(out, "g", value.signature)
        _put(out, value.signature, value.value)
    elif isinstance(value, list | tuple):
        if first == "a":
            _put_array(out, signature[1:], value)
        else:
            for part, each in zip(_types(signature[1:-1]), value, strict=True):
                _put(out, part, each)


def _put_array(out: bytearray, signature: str, values: Sequence[object]) -> None:
    """An array's length is that of its elements, without what aligns the first."""
    place = len(out)
    out += bytes(4)
    _align(out, _ALIGNMENTS[signature[0]])
    start = len(out)
    for each in values:
        _put(out, signature, each)
    out[place : place + 4] = struct.pack("<I", len(out) - start)


def _align(out: bytearray, size: int) -> None:
    out += bytes(-len(out) % size)


def _end(signature: str) -> int:
    """Where the first complete type ends."""
    depth = 0
    for place, letter in enumerate(signature):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0 and letter != "a":
            return place + 1
    return len(signature)


def _types(signature: str) -> list[str]:
    """The complete types of which a signature consists."""
    found = []
    while signature:
        end = _end(signature)
        found.append(signature[:end])
        signature = signature[end:]
    return found
