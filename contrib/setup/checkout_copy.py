"""Copies a checkout as root to a folder of another user: checkout_copy.py CHECKOUT USER FOLDER.

Only what belongs to the project is copied: the files that git tracks or doesn't ignore. They are read as root and
written as the user, so nothing that the user's processes leave in the folder, a symlink say, can lead root to write
elsewhere. Every file is replaced at once, so tests that run in the folder at this moment see whole files.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

# Holds the names that the last copy wrote, so that the next one can remove those that are gone.
LIST = ".copied"

# What isn't copied of a checkout without git. A name with a dot at its beginning isn't either, but for the ones below.
LEFT_OUT = frozenset({"__pycache__", "build", "dist"})
HIDDEN_BUT_OURS = frozenset({".ci", ".gitignore"})


class File(NamedTuple):
    """A regular file, or with `S_ISLNK(mode)` a symlink whose target is `content`. `modified` is in nanoseconds."""

    name: str
    mode: int
    modified: int
    content: bytes


def names_by_git(checkout: Path) -> list[str] | None:
    """The tracked and the not ignored files, or None where git isn't installed or `checkout` isn't a repository."""
    command = ["git", "-c", f"safe.directory={checkout}", "ls-files", "-coz", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=checkout, capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return sorted({os.fsdecode(name) for name in done.stdout.split(b"\0") if name})


def names_by_walk(checkout: Path) -> list[str]:
    """What `names_by_git` would most likely say."""
    names = []
    for folder, subfolders, files in os.walk(checkout):
        subfolders[:] = [name for name in subfolders if belongs(name)]
        names += [os.path.relpath(os.path.join(folder, name), checkout) for name in files if belongs(name)]
    return sorted(names)


def belongs(name: str) -> bool:
    """Whether a file or folder of this name is the project's."""
    if name.startswith("."):
        return name in HIDDEN_BUT_OURS
    return name not in LEFT_OUT and not name.endswith((".egg-info", ".so"))


def read_files(checkout: Path, names: list[str]) -> list[File]:
    """The named files, without those that git knows but that were removed, and without sockets and the like."""
    files = []
    for name in names:
        path = checkout / name
        try:
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                content = os.fsencode(os.readlink(path))
            elif stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            else:
                continue
        except FileNotFoundError:
            continue
        files.append(File(name, status.st_mode, status.st_mtime_ns, content))
    return files


def become(user: str) -> None:
    """Gives up root for good. Raises KeyError where there is no such user."""
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    os.umask(0o022)


def write_file(folder: Path, file: File) -> None:
    """Replaces one file, with the time of the original: compiled modules and the set-up's stamp go by it."""
    path = folder / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{os.getpid()}.new")
    if stat.S_ISLNK(file.mode):
        unfinished.symlink_to(os.fsdecode(file.content))
    else:
        unfinished.write_bytes(file.content)
        unfinished.chmod(0o755 if file.mode & stat.S_IXUSR else 0o644)
        os.utime(unfinished, ns=(file.modified, file.modified))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    unfinished.replace(path)


def write_files(folder: Path, files: list[File]) -> None:
    """Makes `folder` hold `files`, and removes what an earlier call wrote that isn't among them."""
    folder.mkdir(parents=True, exist_ok=True)
    before = read_list(folder)
    names = {file.name for file in files}
    write_list(folder, before | names)
    for name in before - names:
        (folder / name).unlink(missing_ok=True)
    for file in files:
        write_file(folder, file)
    write_list(folder, names)


def read_list(folder: Path) -> set[str]:
    """The names that earlier calls wrote."""
    try:
        return set(os.fsdecode((folder / LIST).read_bytes()).split("\0"))
    except FileNotFoundError:
        return set()


def write_list(folder: Path, names: set[str]) -> None:
    """Records `names` for the next call."""
    (folder / LIST).write_bytes(os.fsencode("\0".join(sorted(names))))


def main() -> None:
    """The command line: CHECKOUT USER FOLDER."""
    checkout, user, folder = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    names = names_by_git(checkout)
    files = read_files(checkout, names_by_walk(checkout) if names is None else names)
    become(user)
    write_files(folder, files)


if __name__ == "__main__":
    main()
