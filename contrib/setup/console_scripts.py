"""Rewrites the console scripts of the project in the virtual environment whose Python runs this.

pip's own scripts import `re` for the sake of Windows: 5 ms of the 14 ms that an empty program takes. Python's `-I`
costs nothing and keeps PYTHONPATH and the user's own site-packages, that is other people's code, out of sb. (`-S`
would save 0.5 ms more in a program that imports `os`, and the path of the packages would have to be written here.)
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import distribution
from pathlib import Path

DISTRIBUTION = "rootless-sb"

# The kernel's BINPRM_BUF_SIZE was 128 bytes before Linux 5.1, the `#!` line and its end included (execve(2)).
LONGEST_SHEBANG = 127


def shebang(python: str) -> str:
    """The first lines of a script for `python`, an absolute path.

    A path that is too long for the kernel or holds white space goes by way of sh: that executes the second line, which
    for Python is a string.
    """
    line = f"#!{python} -I"
    if len(os.fsencode(line)) < LONGEST_SHEBANG and len(line.split()) == 2:
        return f"{line}\n"
    quoted = "'" + python.replace("'", "'\"'\"'") + "'"
    return f"#!/bin/sh\n'''exec' {quoted} -I \"$0\" \"$@\"\n' '''\n"


def script(python: str, module: str, function: str) -> str:
    """The text of a console script that calls `function` of `module` and exits with what it returns."""
    return f"{shebang(python)}from {module} import {function}\n\nraise SystemExit({function}())\n"


def write_scripts(folder: Path, python: str) -> None:
    """Writes every console script of the project to `folder`, each at once: it may be running."""
    for entry in distribution(DISTRIBUTION).entry_points.select(group="console_scripts"):
        unfinished = folder / f".{entry.name}.new"
        unfinished.write_text(script(python, entry.module, entry.attr))
        unfinished.chmod(0o755)
        unfinished.replace(folder / entry.name)


if __name__ == "__main__":
    write_scripts(Path(sys.executable).parent, sys.executable)
