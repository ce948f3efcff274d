"""`sb image rm`: remove images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless_sb.cli import each, parsing
from rootless_sb.cli.image import lookup
from rootless_sb.errors import SbError
from rootless_sb.image import collection, surroundings
from rootless_sb.ui import messages

if TYPE_CHECKING:
    from rootless_sb.image.store import Store


def main(arguments: list[str]) -> int:
    """Remove images or names of them; each one goes to stdout. What can't be is said, and the status is 125 then."""
    description = "Remove images. One that has several names loses the given one, and goes with its last."
    options = parsing.Parser("image rm", description, "sb image rm ubuntu:24.04")
    options.add_argument("-f", "--force", action="store_true", help="all its names; it goes when no sandbox needs it")
    options.add_argument("name", metavar="NAME", nargs="+", help="an image's name or id")
    parsed = options.parse_strictly(arguments)
    own = surroundings.look().own
    return each.for_each(parsed.name, lambda called: remove(called, own, force=parsed.force))


def remove(called: str, own: Store, *, force: bool) -> None:
    """Remove one image, or one name of it. Raises SbError: a sandbox uses it, say."""
    image = lookup.find(called, (own,)).image
    names = own.names().get(image.identifier, [])
    dropped = lookup.meant(called, names)
    if len(dropped) > 1 and not force:
        listed = ", ".join(name.familiar() for name in dropped)
        raise SbError(f"cannot remove {called}", f"it has several names: {listed}", f"sb image rm -f {called}")
    users = lookup.users().get(image.identifier, [])
    if force:
        dropped = names
    elif users and len(dropped) == len(names):
        raise SbError(f"cannot remove {called}", f"sandboxes use it: {', '.join(users)}", f"sb rm {users[0]}")
    for name in dropped:
        own.drop_name(name)
    if len(dropped) < len(names):
        return
    held = collection.removing(own)
    if held is None:
        messages.say("another image is just being added: sb image prune removes the layers later")
        return
    with held:
        gone = collection.collect(held, set(lookup.users()), {image.identifier})
    if not gone.images and not force:
        raise SbError(f"cannot remove {called}", "a sandbox runs on it", "sb ps")
