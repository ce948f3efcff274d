"""Many clients at once, one who asks for very much, and what is left of a walk in memory."""

from __future__ import annotations

import os
import tracemalloc
from typing import TYPE_CHECKING

from tests.overlay.ways import python

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Count
    from tests.overlay.conftest import Mounted, Stage

CLIENTS = 64


def plant_names(directory: Path, number: int) -> None:
    """So many empty files: names of a few inodes, which are made faster."""
    directory.mkdir()
    links = 10_000  # as many as any file system allows for one file
    for each in range(number):
        if each % links == 0:
            (directory / f"{each:08}").touch()
        else:
            os.link(directory / f"{each // links * links:08}", directory / f"{each:08}")


def test_64_clients(mounted: Mounted, count: Count) -> None:
    """Each finds in its own files, in those from below and in a shared one, what was written, and nothing is lost."""
    for number in range(CLIENTS):
        (mounted.lower / f"d{number % 8}").mkdir(exist_ok=True)
        (mounted.lower / f"d{number % 8}" / f"f{number}").write_bytes(b"%d " % number * 5000)
    rounds = count(5, 200)
    mounted.run(
        python(
            f"""
import os, random
def work(number):
    chance = random.Random(number)
    own = [f"d{{n % 8}}/f{{n}}" for n in range({CLIENTS}) if n == number]
    content = open(own[0], "rb").read()
    assert content == b"%d " % number * 5000
    for turn in range({rounds}):
        path = f"d{{chance.randrange(8)}}/{{number}}.{{turn}}"
        data = chance.randbytes(chance.randrange(100_000))
        with open(path, "wb") as file:
            file.write(data)
        os.rename(path, path + "x")
        with open(own[-1], "r+b") as file:  # the first time, a copy-up
            file.seek(turn)
            file.write(b"!")
        content = content[:turn] + b"!" + content[turn + 1:]
        assert open(own[-1], "rb").read() == content
        with open("shared", "ab") as file:
            file.write(b"%02d\\n" % number)
        assert path.split("/")[1] + "x" in os.listdir(path.split("/")[0])
        assert open(path + "x", "rb").read() == data
        os.rename(own[-1], f"d{{chance.randrange(8)}}/own{{number}}.{{turn}}") if turn % 2 else None
        if turn % 2:
            own.append(next(f"d{{n}}/own{{number}}.{{turn}}" for n in range(8)
                            if os.path.exists(f"d{{n}}/own{{number}}.{{turn}}")))
        os.unlink(path + "x")
clients = []
for number in range({CLIENTS}):
    clients.append(os.fork())
    if clients[-1] == 0:
        work(number)
        os._exit(0)
assert not any(os.waitpid(client, 0)[1] for client in clients)
lines = open("shared", "rb").read().split()
assert sorted(lines) == sorted([b"%02d" % number for number in range({CLIENTS})] * {rounds})
"""
        )
    )


def test_a_huge_directory_starves_nobody(mounted: Mounted, count: Count) -> None:
    """While one client lists it, the longest of another one's turns takes less than half the time of a listing.

    (Of three listings one is enough: who is starved is so each time, and what else delays a turn comes now and then.)
    """
    number = count(20_000, 1_000_000)
    plant_names(mounted.lower / "huge", number)
    (mounted.lower / "small").mkdir()
    mounted.run(
        python(
            f"""
import os, signal, time
reader, writer = os.pipe()
lister = os.fork()
if lister == 0:
    while True:
        begun = time.monotonic()
        found = sum(1 for _ in os.scandir("huge"))
        assert found == {number}, found
        os.utime("huge")  # nobody goes on with what the kernel has cached
        os.write(writer, f"{{time.monotonic() - begun}}\\n".encode())
os.close(writer)
listings, longest, requests = [], 0.0, 0  # of each listing its time, and that of the longest turn meanwhile
os.set_blocking(reader, False)
while len(listings) < 3:
    begun = time.monotonic()
    with open("small/f", "wb") as file:
        file.write(b"x")
    os.unlink("small/f")
    longest = max(longest, time.monotonic() - begun)
    requests += 1
    try:
        data = os.read(reader, 1 << 16)
    except BlockingIOError:
        continue
    if not data:
        break
    listings += [(float(listing), longest) for listing in data.split()]
    longest = 0.0
else:
    os.kill(lister, signal.SIGKILL)
status = os.waitpid(lister, 0)[1]
assert status == signal.SIGKILL, status
print(requests, "times; listings took, and the longest turns:", listings)
assert any(longest < listing / 2 for listing, longest in listings), listings
"""
        ),
        live=True,
        timeout=count(300, 3000),
    )


def test_what_is_forgotten_takes_no_memory(stage: Stage, count: Count) -> None:
    """A walk over many files takes memory for each; once all is forgotten, hardly any is taken."""
    lower = stage.lower("lower", {})
    number = count(20_000, 1_000_000)
    for each in range(0, number, 1000):
        (stage.base / "lower" / f"d{each}").mkdir()
        for name in range(1000):
            (stage.base / "lower" / f"d{each}" / str(name)).touch()
    driver = stage.over(lower)
    overlay = driver.overlay
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    top = overlay.getattr(1).node
    for directory in list(overlay.tree.scan(top)):
        handle = overlay.opendir(driver.ino(os.fsdecode(directory)))
        for called, entry, _ in overlay.readdir(handle, 0):
            if called not in (b".", b".."):
                overlay.count(entry.node)
        overlay.releasedir(handle)
    grown = tracemalloc.get_traced_memory()[0] - before
    for node in list(overlay.tree.table.nodes.values()):
        overlay.forget(node.ino, node.lookups)
    del node, entry, top
    left = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 1 == len(overlay.tree.table)
    assert 0 < left <= grown / 20, (grown, left)
