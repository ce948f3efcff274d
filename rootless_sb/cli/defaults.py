"""What `SB_*` variables and configuration files say of a command's options, as words to stand before the caller's own.

A nearer source has the last word: the command line, then the variables, then the user's file, then the site's; in a
file a profile before `[run]`. Options that can be given several times are the exception: all sources count.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb import settings
from rootless_sb.errors import SbError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_PREFIX = "SB_"
_YES = ("1", "true", "yes", "on")
_NO = ("", "0", "false", "no", "off")
# Options of which one undoes the other.
_OPPOSITES = {"keep": "rm", "rm": "keep"}


class Source(NamedTuple):
    """Where values come from, in words, and the values: option names with `_` for `-`."""

    where: str
    values: Mapping[str, object]


class Option(NamedTuple):
    """An option as the parser knows it. `negative`: the word for its opposite, if it has one."""

    flag: str
    negative: str
    takes_value: bool
    many: bool


def known_options(parser: argparse.ArgumentParser) -> dict[str, Option]:
    """The long options of a parser, by their names in a configuration file."""
    found = {}
    for action in parser._actions:  # argparse has no public list of them
        flag = next((word for word in action.option_strings if word.startswith("--")), "")
        if flag and not isinstance(action, argparse._HelpAction):
            negative = f"--no-{flag[2:]}" if isinstance(action, argparse.BooleanOptionalAction) else ""
            many = isinstance(action, argparse._AppendAction)
            found[flag[2:].replace("-", "_")] = Option(flag, negative, action.nargs != 0, many)
    return found


def from_environment(environment: Mapping[str, str], options: Mapping[str, Option]) -> Source | None:
    """What the variables say: `SB_` and an option's name in capitals; several values of one option on a line each.

    Raises SbError for a switch that is neither on nor off.
    """
    values: dict[str, object] = {}
    for variable, text in environment.items():
        option = options.get(variable.removeprefix(_PREFIX).lower())
        if not variable.startswith(_PREFIX) or option is None or variable != variable.upper():
            continue
        key = variable.removeprefix(_PREFIX).lower()
        if option.many:
            values[key] = [line for line in text.split("\n") if line]
        elif option.takes_value:
            values[key] = text
        else:
            values[key] = _switch(variable, text)
    return Source("the environment", values) if values else None


def from_documents(documents: Sequence[settings.Document], profile: str) -> list[Source]:
    """What the files say, the farthest first. Raises SbError for a profile that none of them has."""
    found = []
    profiles: set[str] = set()
    for path, document in ((each.path, each) for each in documents):
        known = document.table(settings.PROFILE)
        profiles |= set(known)
        found.append(Source(path, document.table(settings.RUN)))
        if profile in known:
            found.append(Source(path, settings.as_table(known[profile], f"{path}: {settings.PROFILE}.{profile}")))
    if profile and profile not in profiles:
        hint = did_you_mean(profile, profiles) or "a table [profile.NAME] in config.toml makes one"
        raise SbError(f"--profile {profile}", "no configuration file has it", hint)
    return found


def words(sources: Iterable[Source], options: Mapping[str, Option], given: Iterable[str] = ()) -> list[str]:
    """The words of a command line that say the same as the sources, the farthest of which comes first.

    `given`: what the caller has switched on; its opposite in a source counts for nothing. Raises SbError.
    """
    chosen: dict[str, list[str]] = {}
    for where, values in sources:
        for key, value in values.items():
            option = options.get(key)
            if option is None:
                raise SbError(f"{where}: unknown key {key}", hint=did_you_mean(key, options))
            said = _words(option, value, f"{where}: {key}")
            chosen[key] = [*chosen.get(key, ()), *said] if option.many else said
            chosen.pop(_OPPOSITES.get(key, ""), None)
    for key in given:
        chosen.pop(_OPPOSITES.get(key, ""), None)
    return [word for said in chosen.values() for word in said]


def _words(option: Option, value: object, what: str) -> list[str]:
    if not option.takes_value:
        if not isinstance(value, bool):
            raise SbError(what, "neither true nor false", f"{what.rpartition(' ')[2]} = true")
        return [option.flag] if value else [option.negative] if option.negative else []
    each = value if option.many and isinstance(value, list) else [value]
    for one in each:
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            raise SbError(what, "not a text or a number", f'{what.rpartition(" ")[2]} = "…"')
    return [f"{option.flag}={one}" for one in each]


def _switch(variable: str, text: str) -> bool:
    if text.lower() not in (*_YES, *_NO):
        raise SbError(f"{variable}={text}", "neither on nor off", f"{variable}=1, or {variable}=0")
    return text.lower() in _YES
