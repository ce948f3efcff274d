"""The configuration files: `$XDG_CONFIG_HOME/sb/config.toml` and `/etc/sb/config.toml`.

    [run]                 options of `sb run`: their long names with `_` for `-`
    [profile.NAME]        the same, for `--profile NAME`
    [registries]          where images come from
    [store]               where else images are

None is read from the working directory: whoever made that may want something else than its visitor.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb import paths
from rootless_sb.errors import SbError, did_you_mean
from rootless_sb.kernel import files

if TYPE_CHECKING:
    from collections.abc import Mapping

RUN = "run"
PROFILE = "profile"
_TABLES = (RUN, PROFILE, "registries", "store")


class Document(NamedTuple):
    """A configuration file that is there: its path, and its tables as TOML has them."""

    path: str
    tables: Mapping[str, object]

    def table(self, name: str) -> Mapping[str, object]:
        """One of its tables, empty if it isn't there. Raises SbError for what is none."""
        return as_table(self.tables.get(name, {}), f"{self.path}: {name}")


def as_table(value: object, what: str) -> Mapping[str, object]:
    """The value if it is a table. Raises SbError that begins with `what`."""
    if not isinstance(value, dict):
        raise SbError(what, "not a table", "a line like [run], and below it lines like keep = true")
    return value


def load(environment: dict[str, str], home: str) -> tuple[Document, ...]:
    """The files that are there, the site's before the user's, which has the last word. Raises SbError."""
    found = (_read(path) for path in paths.configurations(environment, home))
    return tuple(document for document in found if document is not None)


def _read(path: str) -> Document | None:
    try:
        data = files.read_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SbError(f"cannot read {path}", error.strerror or str(error)) from error
    if data is None:
        raise SbError(f"cannot read {path}", "not a file", "remove it, or put a file there")
    import tomllib

    try:
        tables = tomllib.loads(data.decode())
    except ValueError as error:  # a TOMLDecodeError, or bytes that aren't UTF-8
        raise SbError(f"cannot read {path}", str(error), "it is TOML: https://toml.io") from error
    for name in tables:
        if name not in _TABLES:
            raise SbError(f"{path}: unknown table {name}", hint=did_you_mean(name, _TABLES))
    return Document(path, tables)


def home(environment: dict[str, str]) -> str:
    """The user's home directory, for `load` where no `Host` is at hand."""
    given = environment.get("HOME", "")
    if given.startswith("/"):
        return given
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:  # an id without an account
        return "/"
