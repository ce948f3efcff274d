"""`sb image inspect`: all that is known of images, as JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from rootless_sb.cli import parsing
from rootless_sb.cli.image import lookup, ls
from rootless_sb.image import manifest, surroundings

if TYPE_CHECKING:
    from rootless_sb.image.store import Found


def main(arguments: list[str]) -> int:
    """Print what is known of images. Raises SbError."""
    options = parsing.Parser("image inspect", "What is known of images, as JSON.", "sb image inspect ubuntu")
    options.add_argument("name", metavar="NAME", nargs="+", help="an image's name or id")
    options.add_argument("--json", action="store_true", help="print JSON (it always is)")
    parsed = options.parse_strictly(arguments)
    where = surroundings.look()
    described = [details(lookup.find(name, where.stores)) for name in parsed.name]
    sys.stdout.write(json.dumps({"schema": 1, "images": described}, indent=2) + "\n")
    return 0


def details(found: Found) -> dict[str, object]:
    """What JSON says of one image: the facts, its layers, its manifest's digest, and its configuration as it came."""
    image, store = found
    raw = store.read(image.identifier, "manifest")
    return {
        **ls.facts(image, store, store.names().get(image.identifier, [])),
        "digest": manifest.digest_of(raw),
        "layers": [{"diff_id": f"sha256:{each}", "size": store.layer_size(each)} for each in image.layers],
        "config": manifest.load(store.read(image.identifier, "config"), "the configuration"),
    }
