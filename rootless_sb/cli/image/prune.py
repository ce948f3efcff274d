"""`sb image prune`: remove what nobody needs."""

from __future__ import annotations

import sys

from rootless_sb.cli import asking, parsing
from rootless_sb.cli.image import lookup
from rootless_sb.errors import Doing, SbError
from rootless_sb.image import collection, surroundings, whole
from rootless_sb.ui import messages


def main(arguments: list[str]) -> int:
    """Remove images without a name, and all layers and blobs that no image has; ids to stdout. Raises SbError."""
    description = "Remove images without a name, and what downloads have left. -a: also those that no sandbox uses."
    options = parsing.Parser("image prune", description, "sb image prune -f")
    options.add_argument("-a", "--all", action="store_true", help="all images that no sandbox uses")
    options.add_argument("-f", "--force", action="store_true", help="don't ask")
    parsed = options.parse_strictly(arguments)
    where = surroundings.look()
    own = where.own
    users = set(lookup.users())
    names = own.names()
    going = [
        each for each in own.images() if each.identifier not in users and (parsed.all or each.identifier not in names)
    ]
    if going and not parsed.force and not asking.agreed(f"{len(going)} images", "sb image prune -f"):
        return 1
    held = collection.removing(own)
    if held is None:
        raise SbError("cannot prune", "an image is just being added", "try again when that is done")
    with held:
        users, names = set(lookup.users()), own.names()  # once more: whoever was asked may have taken their time
        for image in going if parsed.all else []:
            if image.identifier not in users:
                for name in names.get(image.identifier, []):
                    own.drop_name(name)
        gone = collection.collect(held, users)
        sys.stdout.write("".join(f"{identifier}\n" for identifier in gone.images))
        manifests = [whole.manifest_of(image, own) for image in own.images()]
        needed = {blob.digest for each in manifests for blob in (each.config, *each.layers)}
        with Doing(f"cannot remove blobs from {where.cache.path}"):
            freed = where.cache.drop(needed)
    messages.say(f"{messages.human_size(freed + gone.freed)} freed")
    return 0
