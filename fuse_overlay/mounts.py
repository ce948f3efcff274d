"""Which file systems are mounted on the host."""

from __future__ import annotations

from fuse_overlay import policy


class Mounts:
    """The types of the file systems that devices stand for, read again when an unknown one comes up."""

    __slots__ = ("_kinds",)

    def __init__(self, kinds: dict[int, str] | None = None) -> None:
        self._kinds: dict[int, str] = {} if kinds is None else kinds

    def is_pseudo(self, device: int) -> bool:
        """Whether this st_dev is a pseudo file system."""
        if device not in self._kinds:
            self._kinds.update(_read())
            # Some devices never are in the table: a subvolume of btrfs has an st_dev of its own.
            self._kinds.setdefault(device, "")
        return self._kinds[device] in policy.PSEUDO


def _read() -> dict[int, str]:
    with open("/proc/self/mountinfo", "rb") as table:
        return policy.file_systems(table.read())
