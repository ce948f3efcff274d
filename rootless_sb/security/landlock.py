"""What Landlock holds a sandbox and its overlay server to, as far as this kernel's version of it goes. Pure.

Versions and bits: Documentation/userspace-api/landlock.rst, <linux/landlock.h>.
"""

from __future__ import annotations

from fuse_overlay.tuples import NamedTuple

# Rights to files, with the version of the interface that brought them.
_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ = 1 << 2 | 1 << 3  # files, directories
_REMOVE = 1 << 4 | 1 << 5  # directories, others
_MAKE = 1 << 6 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12  # one for each type of file
_REFER = 1 << 13
_TRUNCATE = 1 << 14
_USE_DEVICES = 1 << 15
_LATER = ((2, _REFER), (3, _TRUNCATE), (5, _USE_DEVICES))
_CHANGE = _WRITE_FILE | _REMOVE | _MAKE | _REFER | _TRUNCATE

_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1  # version 4
_ABSTRACT_SOCKETS, _SIGNALS = 1 << 0, 1 << 1  # version 6

_FILES_SINCE = 2  # without REFER, renaming a file to another directory would fail
_NETWORK_SINCE = 4
_SCOPES_SINCE = 6


class Domain(NamedTuple):
    """What is restricted: rights to files, of which `beneath` one directory `granted` remain; to TCP; and beyond the
    domain's own processes, signals and abstract unix sockets (`scoped`).
    """

    files: int = 0
    granted: int = 0
    network: int = 0
    scoped: int = 0

    def restricts(self) -> tuple[str, ...]:
        """In words, what is restricted."""
        words = {"files": self.files, "tcp": self.network}
        words |= {"abstract_unix_sockets": self.scoped & _ABSTRACT_SOCKETS, "signals": self.scoped & _SIGNALS}
        return tuple(word for word, bits in words.items() if bits)


def target(version: int, *, nested: bool) -> Domain:
    """For all that runs in a sandbox: no file outside its own root, no signal and no abstract socket to the outside.

    Nothing where mounts are to be made (`nested`): a domain that restricts files forbids each, and under one that
    restricts only the rest no domain made inside could move a file from one directory to another.
    `version`: of the kernel's interface, 0 for none.
    """
    if nested:
        return Domain()
    files = 0
    if version >= _FILES_SINCE:
        files = _EXECUTE | _WRITE_FILE | _READ | _REMOVE | _MAKE
        files |= sum(rights for since, rights in _LATER if version >= since)
    return Domain(files=files, granted=files, scoped=_scoped(version))


def overlay_server(version: int) -> Domain:
    """For the overlay server: it executes nothing, changes files only in the sandbox's own directory, needs no TCP."""
    missing = sum(rights for since, rights in _LATER if version < since)
    granted = _CHANGE & ~missing if version >= _FILES_SINCE else 0
    return Domain(
        files=granted | _EXECUTE if granted else 0,
        granted=granted,
        network=_BIND_TCP | _CONNECT_TCP if version >= _NETWORK_SINCE else 0,
        scoped=_scoped(version),
    )


def _scoped(version: int) -> int:
    return _ABSTRACT_SOCKETS | _SIGNALS if version >= _SCOPES_SINCE else 0
