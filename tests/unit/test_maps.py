"""The id maps of the user namespaces."""

from __future__ import annotations

from typing import Any

import pytest

from rootless_sb import spec
from rootless_sb.host import SubordinateRange, subordinate_ranges
from rootless_sb.maps import MapLine, id_maps, map_text, nested
from tests.unit.hosts import HOST


def test_root_with_subordinate_ids() -> None:
    """Root inside is the user, the subordinate ids follow from 1."""
    maps = id_maps(spec.ROOT, HOST)
    assert (MapLine(0, 1000, 1), MapLine(1, 100000, 65536)) == maps.uids
    assert (MapLine(0, 1000, 1), MapLine(1, 200000, 65536)) == maps.gids
    assert ("/usr/bin/newuidmap", "/usr/bin/newgidmap") == maps.helpers


def test_two_ranges_follow_each_other() -> None:
    """All subordinate ids are used, whatever number of ranges they come in."""
    host = HOST._replace(subordinate_uids=(SubordinateRange(100000, 10), SubordinateRange(300000, 5)))
    maps = id_maps(spec.ROOT, host)
    assert (MapLine(0, 1000, 1), MapLine(1, 100000, 10), MapLine(11, 300000, 5)) == maps.uids


@pytest.mark.parametrize(
    "missing",
    [{"subordinate_uids": ()}, {"subordinate_gids": ()}, {"newuidmap": None}, {"newgidmap": None}],
)
def test_one_id_where_anything_is_missing(missing: dict[str, Any]) -> None:
    """Without the helpers, or without ids of both kinds, root alone is mapped, without a helper."""
    maps = id_maps(spec.ROOT, HOST._replace(**missing))
    assert ((MapLine(0, 1000, 1),), (MapLine(0, 1000, 1),), None) == tuple(maps)


def test_single_is_single() -> None:
    """--userns single doesn't use the subordinate ids that there are."""
    assert (MapLine(0, 1000, 1),) == id_maps(spec.SINGLE, HOST).uids


def test_keep_id_is_surrounded() -> None:
    """--userns keep-id: the user's id is itself, subordinate ids lie below and above it without a gap."""
    maps = id_maps(spec.KEEP_ID, HOST)
    assert (MapLine(0, 100000, 1000), MapLine(1000, 1000, 1), MapLine(1001, 101000, 64536)) == maps.uids


def test_keep_id_with_a_small_range() -> None:
    """Fewer subordinate ids than the user's number leave a hole, and the user's id is mapped all the same."""
    maps = id_maps(spec.KEEP_ID, HOST._replace(subordinate_uids=(SubordinateRange(5000, 10),)))
    assert (MapLine(0, 5000, 10), MapLine(1000, 1000, 1)) == maps.uids


def test_nested_maps_each_extent_onto_itself() -> None:
    """Namespace B has a line for each of A's, none spanning two."""
    lines = nested((MapLine(0, 1000, 1), MapLine(1, 100000, 65536)))
    assert "0 0 1\n1 1 65536\n" == map_text(lines)


def test_subordinate_ranges_by_name_and_by_number() -> None:
    """/etc/subuid may name the user or number it; other users' lines and broken ones are passed over."""
    table = b"bob:1:2\nann:100000:65536\n1000:300000:10\nann:x:y\nann:5:0\n\n#ann:1:1\n"
    expected = (SubordinateRange(100000, 65536), SubordinateRange(300000, 10))
    assert expected == subordinate_ranges(table, "ann", 1000)
