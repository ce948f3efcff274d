"""The id maps of the user namespaces A and B: user_namespaces(7), "User and group ID mappings". Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb import spec

if TYPE_CHECKING:
    from rootless_sb.host import Host, SubordinateRange


class MapLine(NamedTuple):
    """A line of a user namespace's id map: `size` ids from `inside` are those from `outside`."""

    inside: int
    outside: int
    size: int


class IdMaps(NamedTuple):
    """The maps of namespace A. `helpers`: newuidmap and newgidmap write them, else the process itself (one id)."""

    uids: tuple[MapLine, ...]
    gids: tuple[MapLine, ...]
    helpers: tuple[str, str] | None


def id_maps(mode: str, host: Host) -> IdMaps:
    """The maps of A for `--userns` MODE: with all subordinate ids where the host grants both kinds, else one id."""
    own_uid, own_gid = (host.uid, host.gid) if mode == spec.KEEP_ID else (0, 0)
    granted = host.subordinate_uids and host.subordinate_gids and not host.no_new_privileges
    if mode == spec.SINGLE or not granted or not host.newuidmap or not host.newgidmap:
        return IdMaps((MapLine(own_uid, host.uid, 1),), (MapLine(own_gid, host.gid, 1),), None)
    return IdMaps(
        _around(own_uid, host.uid, host.subordinate_uids),
        _around(own_gid, host.gid, host.subordinate_gids),
        (host.newuidmap, host.newgidmap),
    )


def nested(lines: tuple[MapLine, ...]) -> tuple[MapLine, ...]:
    """The map of B: every id of A is itself. A line that spanned two of A's would be EPERM (map_id_range_down)."""
    return tuple(MapLine(line.inside, line.inside, line.size) for line in lines)


def map_text(lines: tuple[MapLine, ...]) -> str:
    """A map as the kernel reads it."""
    return "".join(f"{line.inside} {line.outside} {line.size}\n" for line in lines)


def _around(own: int, outside: int, ranges: tuple[SubordinateRange, ...]) -> tuple[MapLine, ...]:
    """Subordinate ids take the inside ids from 0 up, in order, around the user's own id at `own`."""
    lines = [MapLine(own, outside, 1)]
    following = 1 if own == 0 else 0
    for start, size in ranges:
        before = min(size, max(own - following, 0))
        if before:
            lines.append(MapLine(following, start, before))
            following += before
        if following == own:
            following += 1
        if size > before:
            lines.append(MapLine(following, start + before, size - before))
            following += size - before
    return tuple(sorted(lines))
