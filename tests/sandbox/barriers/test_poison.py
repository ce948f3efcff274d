"""Attack: modules and libraries inside that sb itself would load. Barrier: after pivot_root it loads nothing."""

from __future__ import annotations

import encodings
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rootless_sb
from tests.sandbox.running import PATIENCE, SB

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.running import Sandboxes

# Whoever loads it leaves a mark. Name look-ups by passwd's order begin with it, and a locale's charset converter.
LIBRARY = r"""
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void loaded(void) {
    int mark = open("/tmp/sb-loaded", O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (mark >= 0) { write(mark, "loaded\n", 7); close(mark); }
}
"""
# Poisons name look-ups, locales and every module of sb's and Python's that could be imported later.
POISON = """
    set -e
    for directory in /usr/lib/x86_64-linux-gnu /usr/lib64 /usr/lib /lib; do
        [ ! -d $directory ] || cp "$1" $directory/libnss_evil.so.2
    done
    sed -i -E 's/^(passwd|group|hosts):.*/\\1: evil files/' /etc/nsswitch.conf
    for table in passwd group hosts; do
        grep -q "^$table: evil" /etc/nsswitch.conf || echo "$table: evil files" >>/etc/nsswitch.conf
    done
    for directory in "$2" "$3"; do
        find "$directory" -name '*.pyc' -delete
        find "$directory" -maxdepth 3 -name '*.py' | while read -r module; do
            echo 'import posix; posix.write(posix.open("/tmp/sb-loaded", 0o2101, 0o666), b"imported")' >"$module"
        done
    done
    rm -f /tmp/sb-loaded
    """


@pytest.fixture
def library(tmp_path: Path, program: Callable[[str], Path]) -> Path:
    """A library that leaves a mark when it is loaded."""
    (tmp_path / "evil.c").write_text(LIBRARY)
    library = tmp_path / "libnss_evil.so.2"
    subprocess.run([program("gcc"), "-shared", "-fPIC", "-o", library, tmp_path / "evil.c"], check=True)
    return library


def test_a_previous_runs_poison(sb: Sandboxes, library: Path) -> None:
    """A sandbox whose layer poisons NSS and every Python module starts again, lets `sb exec` in, and none is loaded.

    The control: whoever looks a name up inside, or starts Python, does load them.
    """
    places = (Path(encodings.__file__).parents[1], Path(rootless_sb.__file__).parent)
    words = (str(library), *map(str, places))
    poisoned = sb("-q", "--name", "evil", "--", "sh", "-c", POISON, "sh", *words)
    assert 0 == poisoned.returncode, poisoned.stderr
    script = "cat /tmp/sb-loaded 2>/dev/null || echo clean"
    for command in (("exec", "evil"), ("start", "--attach", "evil", "--")):
        for user in ((), ("-u", "nobody")) if command[0] == "exec" else ((),):
            done = sb.command(command[0], *user, *command[1:], "sh", "-c", script)
            assert "clean\n" == done.stdout, (command, user, done.stderr)
    control = sb.command("exec", "evil", "sh", "-c", f"getent passwd root >/dev/null; {script}")
    assert control.stdout.startswith("loaded\n"), control.stderr
    control = sb.command("exec", "evil", "sh", "-c", f"rm -f /tmp/sb-loaded; {sys.executable} -I -c pass; {script}")
    assert control.stdout.startswith("imported"), control
    assert 0 == sb.command("rm", "evil").returncode


def test_what_is_opened_after_the_pivot(sb: Sandboxes, program: Callable[[str], Path], tmp_path: Path) -> None:
    """From pivot_root to the command, sb opens the root, its own entries in /proc, and no other file, by any name."""
    log = tmp_path / "log"
    command = [program("strace"), "-f", "-o", log, "-e", "trace=open,openat,openat2,pivot_root,execve", SB, "run", "-q"]
    done = subprocess.run(
        [*map(str, command), "--userns=single", "--", "/bin/true"],
        env=sb.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    lines = log.read_text().splitlines()
    pivot = next(number for number, line in enumerate(lines) if "pivot_root(" in line)
    start = next(number for number, line in enumerate(lines) if number > pivot and " execve(" in line)
    ours = {lines[number].split()[0] for number in (pivot, start)}
    opened = [line for line in lines[pivot:start] if line.split()[0] in ours and "open" in line]
    # A path that can't be shown, of a process that isn't dumpable, stands as it is.
    names = {match.group(1) if (match := re.search(r'"([^"]*)"', line)) else line for line in opened}
    assert {"uid_map", "gid_map", "ns/user"} <= names, "the control: opening is seen"
    assert {"/", "uid_map", "gid_map", "ns/user"} >= {name for name in names if not name.isdigit()}, names
