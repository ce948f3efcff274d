"""What is measured: the rows of the benchmark, each a tree to work on and a shell command."""

from __future__ import annotations

import sys
from typing import NamedTuple


class Sizes(NamedTuple):
    """How much there is to do: numbers of files, of repeated calls, and of MiB in the large file."""

    files: int
    unpacked: int
    copied: int
    calls: int
    large: int


FULL = Sizes(files=50_000, unpacked=10_000, copied=1_000, calls=3_000, large=1024)
QUICK = Sizes(files=5_000, unpacked=1_000, copied=200, calls=1_000, large=128)


class Row(NamedTuple):
    """One thing that is measured.

    `tree`: the lower directory (trees.py). `command` is timed, after `prepare`, both in the merged directory just
    mounted; `before` is run in what becomes the upper. `writes`: the command changes the tree.
    """

    name: str
    tree: str
    command: str
    prepare: str = ""
    before: str = ""
    writes: bool = False


def _python(program: str) -> str:
    return f"{sys.executable} -I -c '{program}'"


def _warm(name: str, tree: str, command: str) -> tuple[Row, Row]:
    return Row(f"{name}, cold", tree, command), Row(f"{name}, warm", tree, command, prepare=command)


def _looking(sizes: Sizes) -> tuple[Row, ...]:
    stat = (
        "import os\n"
        f"for n in range({sizes.files}):\n"
        '    for name in ("d%d/f%d" % (n // 100, n), "d%d/none%d" % (n // 100, n % 7)):\n'
        "        try: os.stat(name)\n"
        "        except FileNotFoundError: pass"
    )
    python = "PYTHONHOME=$PWD ./bin/python3 -c 'import argparse, json, subprocess, typing'"
    return (
        *_warm("find", "files", "find . >/dev/null"),
        *_warm("ls -lR", "files", "ls -lR >/dev/null"),
        Row("stat, half of them missing", "files", _python(stat)),
        *_warm("grep -r", "files", "grep -r nothing . || true"),
        *_warm("start of python", "programs", python),
        *_warm("start of node", "programs", "./bin/node -e 0"),
        Row("git status", "repository", "git -C repository status --porcelain"),
    )


def _changing(sizes: Sizes) -> tuple[Row, ...]:
    return (
        Row("untar", "empty", "tar xf $TREES/archive.tar", writes=True),
        Row("rm -rf, lower", "unpacked", "rm -rf -- *", writes=True),
        Row("rm -rf, upper", "empty", "rm -rf -- *", before="tar xf $TREES/archive.tar", writes=True),
        Row("git clone", "repository", "git clone -q --no-hardlinks repository clone", writes=True),
        Row("copy-up, small files", "copied", "for f in *; do echo x >>$f; done", writes=True),
        Row("copy-up, a large file", "large", "printf x >>large", writes=True),
        Row("make -j2", "sources", "make -s -j2", writes=True),
    )


def _data(sizes: Sizes) -> tuple[Row, ...]:
    write = f"dd if=/dev/zero of=new bs=1M count={sizes.large} status=none"
    read = "dd if={} of=/dev/null bs=1M status=none"
    # The advice to drop the cache concerns the real file; it takes a write to the disk first.
    drop = "dd of=$LOWER/large oflag=nocache conv=notrunc,fdatasync count=0 status=none"
    fio = (
        f"fio --name=row --bs=4k --size={sizes.large}m --io_size={sizes.large // 8}m --ioengine=psync"
        " --output=/dev/null --filename="
    )
    mapped = (
        "import mmap\n"
        'with open("large", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as area:\n'
        "    sum(area[at] for at in range(0, len(area), 4096))"
    )
    return (
        Row("write in sequence", "empty", write, writes=True),
        Row("read in sequence, lower, dropped", "large", read.format("large"), prepare=drop),
        Row("read in sequence, lower", "large", read.format("large")),
        Row("read in sequence, upper", "empty", read.format("new"), before=write, writes=True),
        Row("read in sequence, warm", "large", read.format("large"), prepare=read.format("large")),
        Row("random reads of 4 KiB", "large", f"{fio}large --rw=randread"),
        Row("random writes of 4 KiB", "empty", f"{fio}new --rw=randwrite", before=write, writes=True),
        Row("read by mmap", "large", _python(mapped)),
    )


def _small_writes(sizes: Sizes) -> tuple[Row, ...]:
    append = (
        "import os\n"
        'log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n'
        f'for n in range({sizes.calls}): os.write(log, b"a line of a log, of some sixty characters, as logs have\\n")'
    )
    insert = (
        "import sqlite3\n"
        'base = sqlite3.connect("base", isolation_level=None)\n'
        'base.execute("pragma synchronous={}")\n'
        'base.execute("create table t (a)")\n'
        'for n in range({}): base.execute("insert into t values (?)", (n,))'
    )
    return (
        Row("appends to a log", "empty", _python(append), writes=True),
        Row("sqlite, fsync", "empty", _python(insert.format("full", sizes.calls // 10)), writes=True),
        Row("sqlite, no fsync", "empty", _python(insert.format("off", sizes.calls // 3)), writes=True),
    )


def clients(number: int) -> Row:
    """All files read by this many processes at once."""
    return Row(f"grep -r by {number} at once", "files", f"ls | xargs -P{number} -n4 grep -r nothing || true")


def rows(sizes: Sizes) -> tuple[Row, ...]:
    """All rows."""
    several = (clients(8), clients(64))
    return (*_looking(sizes), *_changing(sizes), *_data(sizes), *_small_writes(sizes), *several)
