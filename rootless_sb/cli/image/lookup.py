"""From what a person calls an image to the image, and to who uses it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless_sb import leftovers
from rootless_sb.cli import lookup
from rootless_sb.errors import SbError, did_you_mean
from rootless_sb.image import reference, store

if TYPE_CHECKING:
    from rootless_sb.image.reference import Reference
    from rootless_sb.image.store import Found, Store


def find(called: str, stores: tuple[Store, ...]) -> Found:
    """The image that is called so. Raises SbError: for an unknown name with the nearest one as the hint."""
    found = store.find(called, stores)
    if found is None:
        known = [name.familiar() for each in stores for names in each.names().values() for name in names]
        raise SbError(f"there is no image {called} here", hint=did_you_mean(called, known) or f"sb image pull {called}")
    return found


def meant(called: str, names: list[Reference]) -> list[Reference]:
    """Which of an image's names somebody means who calls it so: that one, or all of them by its id."""
    try:
        wanted = reference.parse(called)
    except SbError:
        return names
    return [wanted] if wanted in names else names


def users() -> dict[str, list[str]]:
    """The sandboxes of each image, by its id; each by its name or id. Raises SbError."""
    where = lookup.places()
    found: dict[str, list[str]] = {}
    for each in leftovers.everything(where.all(), os.geteuid()):
        if each.state is not None and each.state.image:
            found.setdefault(each.state.image, []).append(each.state.name or each.state.identifier)
    return found
