"""Whatever a sandbox does to the host's files, they stay as they were."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Count
    from tests.sandbox.running import Sandboxes

# Prints a line for each file below argv[1]: all that a change could show in, with "all" as argv[2]; else what is the
# same on every file system. Run outside and inside.
DIGEST = """
import hashlib, os, sys
def lines(directory):
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        st = entry.stat(follow_symlinks=False)
        fields = [entry.path, oct(st.st_mode)]
        if sys.argv[2] == "all":
            fields += [st.st_ino, st.st_mtime_ns, st.st_ctime_ns, os.listxattr(entry.path, follow_symlinks=False)]
        if entry.is_symlink():
            fields.append(os.readlink(entry.path))
        elif entry.is_file():
            with open(entry.path, "rb") as file:
                fields += [st.st_nlink, st.st_size, hashlib.sha256(file.read()).hexdigest()]
        print(fields)
        if entry.is_dir(follow_symlinks=False):
            lines(entry.path)
lines(sys.argv[1])
"""

# Does to each file below argv[1] one of all things that can be done to it; the directories come last.
UPHEAVAL = """
import os, shutil, sys
def rewrite(path):
    with open(path, "w") as file:
        file.write("rewritten")
def append(path):
    with open(path, "a") as file:
        file.write("appended")
def shorten(path):
    os.truncate(path, 1)
def replace(path):
    with open(path + ".new", "w") as file:
        file.write("replaced")
    os.replace(path + ".new", path)
def make_directory(path):
    os.unlink(path)
    os.makedirs(path + "/deeper")
def make_symlink(path):
    os.unlink(path)
    os.symlink("/etc/passwd", path)
acts = [
    rewrite, append, shorten, replace, make_directory, make_symlink,
    os.unlink,
    lambda path: os.rename(path, path + ".renamed"),
    lambda path: os.chmod(path, 0o4711),
    lambda path: os.link(path, path + ".link"),
    lambda path: os.utime(path, (1, 1)),
    lambda path: os.chown(path, os.getuid(), os.getgid()),
    lambda path: os.setxattr(path, "user.test", b"value", follow_symlinks=False),
]
files = [os.path.join(where, name) for where, _, names in os.walk(sys.argv[1]) for name in names]
for number, path in enumerate(sorted(files)):
    if not os.path.islink(path):
        acts[number % len(acts)](path)
for number, name in enumerate(sorted(os.listdir(sys.argv[1]))):
    path = os.path.join(sys.argv[1], name)
    if number % 4 == 0:
        shutil.rmtree(path)
    elif number % 4 == 1:
        os.rename(path, path + "-renamed")
    elif number % 4 == 2:
        os.chmod(path, 0o711)
"""


def plant(root: Path, files: int) -> None:
    """Make a tree of so many files: every tenth a symlink, every tenth another name of the one before."""
    for number in range(files):
        path = root / f"d{number // 500}" / f"e{number // 50 % 10}" / f"f{number:05}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 10 == 8:
            path.symlink_to(f"f{number - 1:05}")
        elif number % 10 == 9:
            path.hardlink_to(path.with_name(f"f{number - 2:05}"))
        else:
            path.write_bytes(b"%d\n" % number * (number % 100))
            path.chmod((0o600, 0o644, 0o755, 0o664)[number % 4])


def python(program: str, *arguments: str) -> str:
    """What a Python program prints when it is run on the host."""
    command = [sys.executable, "-I", "-c", program, *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_a_tree_in_upheaval(sb: Sandboxes, tmp_path: Path, count: Count) -> None:
    """Files rewritten, renamed, linked, deleted inside are so there, and of the host's files nothing has changed.

    What is seen inside afterwards is what the host has once the same is done there.
    """
    root = str(tmp_path / "tree")
    files = count(2000, 10000)
    plant(Path(root), files)
    before = python(DIGEST, root, "all")
    assert before.count("\n") > files
    script = '"$0" -I -c "$1" "$3" && "$0" -I -c "$2" "$3" plain'
    result = sb("sh", "-c", script, sys.executable, UPHEAVAL, DIGEST, root)
    assert 0 == result.returncode, result.stderr
    assert before == python(DIGEST, root, "all")
    python(UPHEAVAL, root)
    assert python(DIGEST, root, "plain") == result.stdout


def test_the_systems_files(sb: Sandboxes) -> None:
    """`rm -rf /etc /usr/sbin` leaves nothing but what sb has put there, and the host has its files."""
    before = python(DIGEST, "/usr/sbin", "all"), sorted(os.listdir("/etc"))
    script = "rm -rf --one-file-system /etc /usr/sbin 2>/dev/null; echo /etc/*; ls -d /usr/sbin 2>&1 | wc -l"
    assert ["/etc/hostname", "/etc/hosts", "1"] == sb("/bin/sh", "-c", script).stdout.split()
    assert before == (python(DIGEST, "/usr/sbin", "all"), sorted(os.listdir("/etc")))
