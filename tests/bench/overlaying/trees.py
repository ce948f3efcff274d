"""The directories that the rows work on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.overlaying.rows import Sizes

_IN_A_DIRECTORY = 100
_LINE = b"one line of some text, as files have it, and no more than that\n"


def make_files(place: Path, number: int) -> None:
    """Small files, a hundred in a directory."""
    for each in range(number):
        if each % _IN_A_DIRECTORY == 0:
            directory = place / f"d{each // _IN_A_DIRECTORY}"
            directory.mkdir()
        (directory / f"f{each}").write_bytes(_LINE * (each % 8))


def _make_programs(place: Path) -> None:
    """Python, and node if there is one."""
    library = Path(sysconfig.get_path("stdlib"))
    for name in ("bin", "lib"):
        (place / name).mkdir()
    # A Python that links to nothing but the C library finds its modules by PYTHONHOME.
    shutil.copy2(os.path.realpath(f"/usr/bin/{library.name}"), place / "bin/python3")
    leave_out = shutil.ignore_patterns("test", "dist-packages", "site-packages", "config-*")
    shutil.copytree(library, place / "lib" / library.name, ignore=leave_out, symlinks=True)
    node = shutil.which("node")
    if node is not None:
        shutil.copy2(node, place / "bin/node")


def _make_repository(place: Path, files: int) -> None:
    """A git repository."""
    repository = place / "repository"
    repository.mkdir()
    make_files(repository, files)
    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "all")):
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *identity, *command], cwd=repository, check=True)


def _make_sources(place: Path) -> None:
    """C sources, with a Makefile."""
    names = [f"part{number}" for number in range(24)]
    for name in names:
        (place / f"{name}.c").write_text(f"#include <stdio.h>\n#include <stdlib.h>\nint {name}(void) {{ return 1; }}\n")
    (place / "main.c").write_text("int main(void) { return 0; }\n")
    objects = " ".join(f"{name}.o" for name in ("main", *names))
    (place / "Makefile").write_text(f"program: {objects}\n\tcc -o $@ $^\n")


def _make_archive(place: Path, files: int) -> None:
    """An archive, and beside it what is in it."""
    make_files(place, files)
    subprocess.run(["tar", "cf", place.with_name("archive.tar"), "."], cwd=place, check=True)


def _make_large(place: Path, size: int) -> None:
    """A file of so many MiB."""
    with open(place / "large", "wb") as file:
        for _ in range(size):
            file.write(os.urandom(1 << 20))


def _make_copied(place: Path, files: int) -> None:
    """Small files, all in one directory."""
    for number in range(files):
        (place / f"f{number}").write_bytes(_LINE)


def make(place: Path, sizes: Sizes, wanted: set[str]) -> None:
    """Make the trees that are wanted, each a directory in `place`."""
    makers: dict[str, Callable[[Path], None]] = {
        "empty": lambda _: None,
        "files": lambda path: make_files(path, sizes.files),
        "programs": _make_programs,
        "repository": lambda path: _make_repository(path, sizes.files // 10),
        "sources": _make_sources,
        "unpacked": lambda path: _make_archive(path, sizes.unpacked),
        "copied": lambda path: _make_copied(path, sizes.copied),
        "large": lambda path: _make_large(path, sizes.large),
    }
    for name in sorted({*wanted, "empty", "unpacked"}):
        (place / name).mkdir(parents=True)
        makers[name](place / name)
