"""Where the agent of a caller listens. An agent is of one installation of sb, as it is now, one cgroup and one login.

So a job of a batch system never finds the agent of another one, nor an upgraded sb that of an old one.
"""

from __future__ import annotations

import os
import stat
import sys
import zlib

from rootless_sb import __version__, paths

# What a sandbox is made with.
_FOLDERS = tuple(f"rootless_sb{folder}" for folder in ("", "/agent", "/cli", "/image", "/kernel", "/security", "/ui"))
_FOLDERS += ("fuse_overlay", "fuse_overlay/kernel")
# What an overlay server reads when it is imported.
_VARIABLE = "FUSE_OVERLAY_SHORTCUT"


def directories(environment: dict[str, str], uid: int) -> tuple[str, str]:
    """The directories that may hold the socket, best first; neither exists in any sandbox (paths.own_paths)."""
    return f"{paths.runtime(environment, uid)}/sb", f"/tmp/{paths.base_names(uid)[0]}"


def name() -> str:
    """The socket's name: all that the agent has to share with its caller, in short."""
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parts = [__version__, sys.version, os.environ.get(_VARIABLE, "")]
    parts += map(_written, (*sys.path, sys.executable))  # what is installed beside has a directory there
    parts += (_newest(f"{top}/{folder}") for folder in _FOLDERS)
    parts += map(_read, ("/proc/self/cgroup", "/proc/self/sessionid", "/proc/self/loginuid"))
    return f"agent-{zlib.crc32(chr(0).join(parts).encode(errors='surrogateescape')):08x}"


def is_own(directory: str, uid: int) -> bool:
    """Whether a directory is there, is this user's, and is closed to all others."""
    try:
        found = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid and not found.st_mode & 0o077


def lock(socket: str) -> str:
    """The name of the file that an agent holds the lock of as long as it lives."""
    return f"{socket}.lock"


def find(wanted: str) -> str | None:
    """The directory of a socket of this name, if there is one."""
    uid = os.geteuid()
    for directory in directories(dict(os.environ), uid):
        if os.path.exists(f"{directory}/{wanted}") and is_own(directory, uid):
            return directory
    return None


def make() -> str | None:
    """A directory to listen in, made if need be; None if there can't be one."""
    uid = os.geteuid()
    for directory in directories(dict(os.environ), uid):
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            pass
        except OSError:
            continue
        if is_own(directory, uid):
            return directory
    return None


def _newest(folder: str) -> str:
    """When the modules in a folder were changed last, and how many there are."""
    with os.scandir(folder) as entries:
        times = [entry.stat().st_mtime_ns for entry in entries if entry.name.endswith((".py", ".so"))]
    return f"{folder} {len(times)} {max(times)}"


def _written(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return path
    return f"{path} {found.st_ino} {found.st_mtime_ns}"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
