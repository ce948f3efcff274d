"""Running async functions so that what fails is one error: trio's nurseries raise groups of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

from rootless_sb.errors import SbError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


def run(act: Callable[[], Awaitable[T]]) -> T:
    """Run an async function to its end. Raises what it does, and of a group the one error that it is about."""
    try:
        return trio.run(act)
    except BaseExceptionGroup as group:
        raise first_error(group) from group


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The SbError in a group, or else its first error. What others there are come of the first."""
    while True:
        found = group.subgroup(SbError) or group
        member = found.exceptions[0]
        if not isinstance(member, BaseExceptionGroup):
            return member
        group = member
