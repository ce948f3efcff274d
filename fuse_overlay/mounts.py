"""Which file systems are mounted on the host."""

from __future__ import annotations

import os
import select

from fuse_overlay import policy
from fuse_overlay.kernel.shortcut import SHORTCUT


class Mounts:
    """The types of the file systems that devices stand for: those given, or those in the kernel's table.

    `remote`: the devices of those that may not answer soon; `remote_names`: the last components of their mountpoints,
    which the helper looks up no more.
    """

    __slots__ = ("_kinds", "_poll", "_table", "remote", "remote_names")

    def __init__(self, kinds: dict[int, str] | None = None) -> None:
        self._table = -1
        self.remote: frozenset[int] = frozenset()
        self.remote_names: frozenset[bytes] = frozenset()
        self._kinds: dict[int, str] = {}
        if kinds is not None:
            self._kinds.update(kinds)
            self._find_remote()
            SHORTCUT.pass_over(())
            return
        self._table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        # proc_pid_mounts(5): a change of the table polls as POLLPRI, once.
        self._poll = select.poll()
        self._poll.register(self._table, select.POLLPRI)
        self._read()

    def is_pseudo(self, device: int) -> bool:
        """Whether this st_dev is a pseudo file system now."""
        if self._table >= 0 and self._poll.poll(0):
            self._read()
        # Some devices never are in the table: a subvolume of btrfs has an st_dev of its own.
        return self._kinds.get(device, "") in policy.PSEUDO

    def close(self) -> None:
        """Close the table."""
        if self._table >= 0:
            os.close(self._table)
            self._table = -1

    def _read(self) -> None:
        os.lseek(self._table, 0, os.SEEK_SET)
        parts = []
        while part := os.read(self._table, 1 << 16):
            parts.append(part)
        table = b"".join(parts)
        self._kinds = policy.file_systems(table)
        self._find_remote()
        places = policy.mountpoints(table)
        self.remote_names = frozenset(name for name, kind in places.items() if policy.is_remote(kind))
        SHORTCUT.pass_over(self.remote_names)

    def _find_remote(self) -> None:
        self.remote = frozenset(device for device, kind in self._kinds.items() if policy.is_remote(kind))
