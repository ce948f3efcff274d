"""`sb image ls`: the images, as a table or as JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from rootless_sb.cli import parsing
from rootless_sb.image import surroundings
from rootless_sb.ui import messages, tables

if TYPE_CHECKING:
    from rootless_sb.image.record import Image
    from rootless_sb.image.reference import Reference
    from rootless_sb.image.store import Store


def main(arguments: list[str]) -> int:
    """List images. Raises SbError."""
    options = parsing.Parser("image ls", "List images.", "sb image ls")
    options.add_argument("-q", "--quiet", action="store_true", help="their ids only")
    options.add_argument("--json", action="store_true", help="print JSON")
    parsed = options.parse_strictly(arguments)
    known = [
        (image, store, names.get(image.identifier, []))
        for store in surroundings.look().stores
        for names in (store.names(),)
        for image in store.images()
    ]
    if parsed.json:
        document = {"schema": 1, "images": [facts(*each) for each in known]}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    elif parsed.quiet:
        sys.stdout.write("".join(f"{image.identifier}\n" for image, _, _ in known))
    else:
        rows = [
            (name, image.identifier[:12], image.created[:10] or "-", messages.human_size(image.size))
            for image, _, names in known
            for name in ([each.familiar() for each in names] or ["<none>"])
        ]
        sys.stdout.write(tables.columns((("NAME", "ID", "CREATED", "SIZE"), *sorted(rows))))
    return 0


def facts(image: Image, store: Store, names: list[Reference]) -> dict[str, object]:
    """What JSON says of an image in a list."""
    return {
        "id": image.identifier,
        "names": [str(each) for each in names],
        "platform": image.platform,
        "created": image.created or None,
        "size": image.size,
        "store": store.path,
    }
