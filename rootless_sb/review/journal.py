"""The journal of an apply: a file in the sandbox's directory that says how far it has come.

    STAGING      nothing of the host has changed; there may be staged names beside the targets
    COMMITTING   all is staged; some of the actions may be done
    COMMITTED    all actions are done; what they have replaced may still be there under the staged names

So who finds one undoes the first two and finishes the third. The phase is the end of the file's name.
"""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

from fuse_overlay.tuples import NamedTuple
from rootless_sb import faults
from rootless_sb.kernel import files
from rootless_sb.review.actions import Action, Attributes, Site

if TYPE_CHECKING:
    from collections.abc import Iterable

STAGING, COMMITTING, COMMITTED = "staging", "committing", "committed"

_PHASES = (COMMITTED, COMMITTING, STAGING)  # the last that was written first
_VERSION = 3
_WITHOUT_MADE = 2  # what an older sb has left: the same, but for `Action.made`


class Journal(NamedTuple):
    """`root`: the directory of the host that is the sandbox's root."""

    phase: str
    root: str
    sites: tuple[Site, ...]
    actions: tuple[Action, ...]


def write(own: int, journal: Journal) -> None:
    """Write it down, in the sandbox's directory `own`, for good, in place of earlier phases' ones. Raises OSError."""
    files.write_atomically(own, _name(journal.phase), encode(journal), durable=True)
    _unlink(own, _PHASES[_PHASES.index(journal.phase) + 1 :])
    faults.point(f"apply-{journal.phase}")


def advance(own: int, journal: Journal, phase: str) -> Journal:
    """Note that nothing but the phase has changed. Raises OSError."""
    os.rename(_name(journal.phase), _name(phase), src_dir_fd=own, dst_dir_fd=own)
    os.fsync(own)
    faults.point(f"apply-{phase}")
    return journal._replace(phase=phase)


def read(own: int) -> Journal | None:
    """The journal, if an apply was cut short. Raises OSError; ValueError for one that can't be understood."""
    for phase in _PHASES:
        try:
            return decode(files.read(own, _name(phase)), phase)
        except FileNotFoundError:
            continue
    return None


def is_there(own: int) -> bool:
    """Whether an apply was cut short. Raises OSError."""
    return any(os.access(_name(phase), os.F_OK, dir_fd=own) for phase in _PHASES)


def remove(own: int) -> None:
    """The apply is over. Raises OSError."""
    faults.point("apply-over")
    _unlink(own, _PHASES[::-1])


def _unlink(own: int, phases: Iterable[str]) -> None:
    for phase in phases:
        try:
            os.unlink(_name(phase), dir_fd=own)
        except FileNotFoundError:
            continue


def _name(phase: str) -> str:
    return f"apply.{phase}"


def encode(journal: Journal) -> bytes:
    """The journal as text. Pure."""
    document = {
        "version": _VERSION,
        "root": journal.root,
        "sites": [[os.fsdecode(site.path), *site[1:]] for site in journal.sites],
        "actions": [_plain_action(action) for action in journal.actions],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def decode(data: bytes, phase: str) -> Journal:
    """The journal that a text holds. Raises ValueError. Pure."""
    try:
        document = json.loads(data)
        if document["version"] not in (_VERSION, _WITHOUT_MADE):
            raise ValueError(f"its version is {document['version']}")
        return Journal(
            phase,
            document["root"],
            tuple(Site(os.fsencode(path), tuple(key), mode, widened) for path, key, mode, widened in document["sites"]),
            tuple(map(_action, document["actions"])),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from None


def _plain_action(action: Action) -> list[Any]:
    kind, site, name, staged, old, stamp, new, before, after, clashes, made = action
    names = os.fsdecode(name), os.fsdecode(staged)
    return [kind, site, *names, old, stamp, new, _plain(before), _plain(after), clashes, made]


def _action(plain: list[Any]) -> Action:
    kind, site, name, staged, old, stamp, new, before, after, clashes, *rest = plain
    old, stamp, new, made = (tuple(each) if each else None for each in (old, stamp, new, *(rest or [None])))
    names = os.fsencode(name), os.fsencode(staged)
    return Action(kind, site, *names, old, stamp, new, _attributes(before), _attributes(after), clashes, made)


def _plain(attributes: Attributes | None) -> list[Any] | None:
    if attributes is None:
        return None
    xattrs = [
        [os.fsdecode(name), None if value is None else base64.b64encode(value).decode()]
        for name, value in attributes.xattrs
    ]
    return [*attributes[:3], xattrs]


def _attributes(plain: list[Any] | None) -> Attributes | None:
    if plain is None:
        return None
    mode, uid, gid, listed = plain
    xattrs = tuple((os.fsencode(name), None if value is None else base64.b64decode(value)) for name, value in listed)
    return Attributes(mode, uid, gid, xattrs)
