"""The keys that leave an attached sandbox: ctrl-p ctrl-q, as docker's. Pure."""

from __future__ import annotations

_KEYS = b"\x10\x11"


class DetachKeys:
    """Finds the keys in what is typed, however it is cut into pieces."""

    __slots__ = ("_held", "found")

    def __init__(self) -> None:
        self._held = b""  # a ctrl-p whose successor hasn't come
        self.found = False

    def passed(self, typed: bytes) -> bytes:
        """What of the bytes typed is the command's; nothing from the keys on."""
        before, keys, _ = (self._held + typed).partition(_KEYS)
        if keys:
            self.found = True
            return before
        self._held = _KEYS[:1] if before.endswith(_KEYS[:1]) else b""
        return before.removesuffix(self._held)
