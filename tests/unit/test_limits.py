"""What a sandbox may use."""

from __future__ import annotations

import pytest

from rootless_sb import limits
from rootless_sb.errors import SbError
from rootless_sb.limits import Limit
from rootless_sb.spec import RunSpec
from tests.unit.hosts import HOST


def test_defaults() -> None:
    """Thousands of processes, more on a large machine, and no core dumps."""
    expected = limits.Limits(4096, 9_000_000_000, True, 0.0, (), (Limit("core", 0, 0),), 128)
    assert expected == limits.decide(RunSpec(), HOST)
    assert [16 << 20, 0] == [limits.decide(RunSpec(), HOST._replace(memory=n)).memory for n in (1, 0)]
    assert 6400 == limits.decide(RunSpec(), HOST._replace(processors=200)).processes
    assert [4096, 3000, 6] == [
        limits.decide(RunSpec(), HOST._replace(processes=number)).processes for number in (8000, 4000, 8)
    ]
    assert 100 == limits.decide(RunSpec(pids_limit=100), HOST._replace(processes=8)).processes
    assert 0 == limits.decide(RunSpec(pids_limit=-1), HOST).processes


def test_what_is_asked_for_replaces_them() -> None:
    """A limit of the same name takes the default's place."""
    decided = limits.decide(RunSpec(pids_limit=7, memory="1m", ulimits=("core=-1", "nofile=10:20")), HOST)
    own = (Limit("core", -1, -1), Limit("nofile", 10, 20))
    assert (7, 1 << 20, False, 0.0, (), own, 0) == decided


def test_processors() -> None:
    """So many as are asked for, rounded up, of those that there are; from another place on for another sandbox."""
    host = HOST._replace(affinity=(1, 3, 5, 7))
    assert (1.5, (1, 3)) == limits.decide(RunSpec(cpus="1.5"), host, "0")[3:5]
    assert (1, 7) == limits.decide(RunSpec(cpus="2"), host, "b").processors
    assert (3.5, ()) == limits.decide(RunSpec(cpus="3.5"), host, "b")[3:5]
    assert (0, ()) == limits.decide(RunSpec(cpus="4"), host, "b")[3:5]
    for text in ("0", "-1", "x", "inf", "nan"):
        with pytest.raises(SbError, match="not a number of processors"):
            limits.parse_processors(text)


def test_what_holds_them() -> None:
    """A control group, or what takes its place; of what isn't held as it was asked for the user hears."""
    decided = limits.decide(RunSpec(cpus="1.5", pids_limit=7), HOST._replace(affinity=(0, 1, 2)))
    inside = limits.held(decided, ("memory", "pids", "cpus"), ("pids",))
    assert [("control group",), ("control group", "RLIMIT_NPROC"), ("control group",)] == [
        each.holders for each in inside[:3]
    ]
    assert () == limits.loose(inside)
    assert all(each.name != "running" for each in inside)  # so few processes that it doesn't matter
    outside = limits.held(decided, (), ("pids", "cpus"))
    assert [("watch",), ("RLIMIT_NPROC",), ("affinity",), ("setrlimit",)] == [each.holders for each in outside]
    (said,) = limits.loose(outside)
    assert said.endswith("bound to 2 processors")
    (said,) = limits.loose(limits.held(decided, (), ()))
    assert said.endswith("going on without")


def test_what_runs_at_once() -> None:
    """More than a wide build has; a control group gives all together one share instead."""
    assert [128, 128, 640] == [
        limits.decide(RunSpec(), HOST._replace(processors=number)).running for number in (1, 4, 20)
    ]
    assert [0, 128] == [limits.decide(RunSpec(pids_limit=number), HOST).running for number in (128, 129)]
    decided = limits.decide(RunSpec(), HOST)
    assert ("running", "128", ("turns",)) in limits.held(decided, (), ())
    assert ("running", "one share", ("control group",)) in limits.held(decided, ("running",), ())


@pytest.mark.parametrize(
    "text", ["nofile", "nofile=", "nofile=x", "nofile=5:4", "nofile=-2", "nofile=-1:5", "nofiel=5", "=5"]
)
def test_what_is_no_limit(text: str) -> None:
    """An unknown name is answered with the nearest."""
    with pytest.raises(SbError) as caught:
        limits.parse_ulimit(text)
    assert "nofile" in caught.value.hint or text == "=5"


@pytest.mark.parametrize(
    ("text", "size"), [("5", 5), ("5b", 5), ("1k", 1024), ("512m", 512 << 20), ("1.5G", 3 << 29), ("2GiB", 2 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    """As docker writes them."""
    assert size == limits.parse_size(text)


@pytest.mark.parametrize("text", ["", "m", "0", "-1m", "1x", "1.2.3m", "\u0661m", "inf", "nan"])
def test_what_is_no_size(text: str) -> None:
    """One line, with an example."""
    with pytest.raises(SbError):
        limits.parse_size(text)
