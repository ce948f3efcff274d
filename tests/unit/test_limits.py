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
    assert limits.Limits(4096, 9_000_000_000, (Limit("core", 0, 0),)) == limits.decide(RunSpec(), HOST)
    assert 6400 == limits.decide(RunSpec(), HOST._replace(processors=200)).processes
    assert 0 == limits.decide(RunSpec(pids_limit=-1), HOST).processes


def test_what_is_asked_for_replaces_them() -> None:
    """A limit of the same name takes the default's place."""
    decided = limits.decide(RunSpec(pids_limit=7, memory="1m", ulimits=("core=-1", "nofile=10:20")), HOST)
    assert (7, 1 << 20, (Limit("core", -1, -1), Limit("nofile", 10, 20))) == decided


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
