"""What a run has to know of an image, as a record and as the text of a file (see `fields`). Pure.

The manifest and the configuration are kept beside it as they came; they are JSON, which a start shouldn't have to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb import fields

if TYPE_CHECKING:
    from rootless_sb.image.manifest import Config

SCHEMA = "1"


class RecordError(ValueError):
    """A text that is no image's record, or one of another version; the message says which."""


class Image(NamedTuple):
    """An image. `identifier`: the hexadecimal digits of its configuration's digest, which docker calls its id.

    `layers`: the same of its uncompressed layers, the lowest first. `size`: their files' bytes. The rest is as in the
    configuration.
    """

    identifier: str
    layers: tuple[str, ...] = ()
    platform: str = ""
    created: str = ""
    size: int = 0
    environment: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    directory: str = ""
    user: str = ""
    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    stop_signal: str = ""


def image_of(config: Config, identifier: str, size: int) -> Image:
    """The record of an image with this configuration."""
    return Image(
        identifier=identifier,
        layers=tuple(each.partition(":")[2] for each in config.diff_ids),
        platform=str(config.platform),
        created=config.created,
        size=size,
        environment=config.environment,
        entrypoint=config.entrypoint,
        command=config.command,
        directory=config.directory,
        user=config.user,
        volumes=config.volumes,
        ports=config.ports,
        stop_signal=config.stop_signal,
    )


def encode(image: Image) -> bytes:
    """The text of an image's record."""
    pairs = [("schema", SCHEMA)]
    for name, value in zip(Image._fields, image, strict=True):
        pairs += [(name, each) for each in value] if isinstance(value, tuple) else [(name, str(value))]
    return fields.encode(pairs)


def decode(data: bytes) -> Image:
    """The image that a record holds. Raises RecordError."""
    try:
        values = fields.decode(data)
        if values.get("schema") != [SCHEMA]:
            raise RecordError(
                f"its record has version {''.join(values.get('schema', ['none']))}, this sb reads {SCHEMA}"
            )
        many = {name for name, value in Image._field_defaults.items() if isinstance(value, tuple)}
        found = {name: tuple(values.get(name, ())) if name in many else values[name][0] for name in Image._fields}
        return Image(**{**found, "size": int(values["size"][0])})  # type: ignore[arg-type]  # each of its field's type
    except RecordError:
        raise
    except (KeyError, ValueError) as error:
        raise RecordError(f"its record is damaged: {error}") from error
