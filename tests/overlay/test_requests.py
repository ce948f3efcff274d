"""How many requests the kernel has to send for everyday work: a measure of speed that no load of the machine changes.

The record is requests.json. To make it anew: `contrib/test --tests-only tests/overlay/test_requests.py
--record-requests`, which prints it.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from tests.overlay import ways

if TYPE_CHECKING:
    from tests.overlay.conftest import Mounted

Counts: TypeAlias = dict[str, int]

RECORD = Path(__file__).with_name("requests.json")

FILES = "for d in 1 2 3 4 5; do mkdir d$d; for f in $(seq 20); do echo text >d$d/f$f; done; done"
# What is done in the lower directory first, and then in the merged one.
ROWS = {
    "find": (FILES, "find ."),
    "find, twice": (FILES, "find .; find ."),
    "ls -lR": (FILES, "ls -lR"),
    "grep -r": (FILES, "grep -r nothing . || true"),
    "grep -r, twice": (FILES, "grep -r nothing . || true; grep -r nothing . || true"),
    "missing files": (FILES, "for n in 1 2 3; do for d in 1 2 3; do ! test -e d$d/none; done; done"),
    "untar": (f"mkdir t; cd t; {FILES}; tar cf ../a.tar .", "mkdir new; tar xof a.tar -C new"),
    "rm -rf": (FILES, "rm -rf -- *"),
    "copy-up": (FILES, "for f in d1/*; do echo more >>$f; done"),
    "appends": (":", "for n in $(seq 50); do echo line; done >log"),
    "read, twice": ("head -c 4M /dev/zero >large", "cat large >/dev/null; cat large >/dev/null"),
    "write": (":", "head -c 4M /dev/zero >large"),
    "sqlite": ("sqlite3 base 'create table t (a)'", "for n in 1 2 3; do sqlite3 base 'insert into t values (1)'; done"),
}
OWNERS = """python3 -c '
import os
with open("f", "w") as file:
    for _ in range(20): os.fchown(file.fileno(), os.getuid(), os.getgid())'"""
# How data is divided among requests, and whether its times go along, depends on when the kernel gets round to it.
TIMED = {"getattr", "read", "setattr", "write"}


def count(mounted: Mounted, row: str, way: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Counts, Counts]:
    """Do the work of a row. Returns how many requests came to Python, and how many came at all."""
    before, script = ROWS[row]
    subprocess.run(["bash", "-euc", before], cwd=mounted.lower, check=True)
    ways.take(way, monkeypatch)
    report = mounted.base / "counts"
    mounted.run(script, options=(f"--count={report}",))
    counts = json.loads(report.read_text())
    return counts["python"], counts["all"] or counts["python"]


def allowed(recorded: Counts, kind: str) -> int:
    """How many requests of a kind there may be."""
    number = recorded.get(kind, 0)
    return number + number // 2 + 1 if kind in TIMED else number


@pytest.mark.parametrize("way", ways.WAYS)
@pytest.mark.parametrize("row", ROWS)
def test_no_more_requests_than_on_record(
    mounted: Mounted, row: str, way: str, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    """Everyday work takes no more requests of any kind than on record."""
    _, counts = count(mounted, row, way, monkeypatch)
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if pytestconfig.getoption("--record-requests"):
        recorded.setdefault(row, {})[way] = dict(sorted(counts.items()))
        RECORD.write_text(json.dumps(recorded, indent=1) + "\n")
        return
    assert {} == {kind: number for kind, number in counts.items() if number > allowed(recorded[row][way], kind)}


@pytest.mark.parametrize(
    ("row", "kind"), [("read, twice", "read"), ("write", "write"), ("grep -r", "release"), ("rm -rf", "setattr")]
)
def test_open_files_do_not_come_to_python(
    mounted: Mounted, row: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The helper answers what concerns an open file, and one that is gone."""
    to_python, counts = count(mounted, row, "helper", monkeypatch)
    assert counts[kind] > 0
    assert 0 == to_python.get(kind, 0)


def test_what_was_read_is_opened_by_the_helper(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two readers of files of the upper one after the other, the second is answered by the helper."""
    read = "grep -r nothing . || true"
    monkeypatch.setitem(ROWS, "upper, twice", (":", f"{FILES}; {read}; {read}"))
    to_python, counts = count(mounted, "upper, twice", "helper", monkeypatch)
    assert (200, 100) == (counts["open"], to_python["open"])


def test_what_is_read_all_through_is_the_helpers(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files in directories of one layer alone, Python sees neither that they are listed nor opened."""
    to_python, counts = count(mounted, "grep -r", "helper", monkeypatch)
    assert (100, 12) == (counts["open"], counts["readdir"])
    assert (0, 2) == (to_python.get("open", 0), to_python["readdir"])  # the root is merged with the upper's


def test_missing_names_are_the_helpers(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the names that an archive's files are to get, Python looks for the first in each directory only."""
    to_python, counts = count(mounted, "untar", "helper", monkeypatch)
    assert counts["lookup"] > 100
    assert to_python["lookup"] <= 10


def test_what_was_listed_is_listed_without_python(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lists a directory that is listed already, opens it by the helper, and gets what the kernel has."""
    to_python, counts = count(mounted, "find, twice", "helper", monkeypatch)
    assert counts["opendir"] >= 12
    assert to_python["opendir"] <= 6
    assert to_python.get("getattr", 0) <= 1


def test_files_are_found_by_the_helper(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the files of a layer that are looked up one by one, Python sees the first in each directory; and it opens no
    other.
    """
    named = "for f in $(seq 20); do cat d1/f$f d2/f$f d3/f$f d4/f$f d5/f$f >/dev/null; done"
    monkeypatch.setitem(ROWS, "cat by name", (FILES, named))
    to_python, counts = count(mounted, "cat by name", "helper", monkeypatch)
    assert counts["lookup"] >= 105
    assert to_python["lookup"] <= 10
    assert counts["open"] == 100
    assert to_python.get("open", 0) <= 5


def test_permissions_are_set_by_the_helper(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of what an archive is unpacked to come to Python for directories only."""
    to_python, counts = count(mounted, "untar", "helper", monkeypatch)
    assert counts["setattr"] > 100
    assert to_python["setattr"] <= 12


def test_a_long_listing_asks_python_for_few_attributes(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is seen that who lists asks for each file's attributes, they are looked at beforehand."""
    to_python, counts = count(mounted, "ls -lR", "helper", monkeypatch)
    assert counts["getxattr"] > 200
    assert to_python["getxattr"] < counts["getxattr"] // 4


def test_an_owner_that_stays_is_set_by_the_helper(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sets the owner of an open file to what it is, doesn't come to Python."""
    monkeypatch.setitem(ROWS, "chown", (":", OWNERS))
    to_python, counts = count(mounted, "chown", "helper", monkeypatch)
    assert counts["setattr"] >= 20
    assert to_python.get("setattr", 0) == 0


@pytest.mark.parametrize(("row", "kind"), [("read, twice", "read"), ("write", "write"), ("grep -r", "release")])
def test_without_the_helper_python_does_it(
    mounted: Mounted, row: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the helper switched off the same work is done by Python alone."""
    to_python, _ = count(mounted, row, "python", monkeypatch)
    assert to_python[kind] > 0
