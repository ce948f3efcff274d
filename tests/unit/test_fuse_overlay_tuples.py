"""Tuples whose fields have names, made quickly."""

from __future__ import annotations

import pickle

import pytest

from fuse_overlay.tuples import NamedTuple


class Point(NamedTuple):
    """A place."""

    x: int
    y: int = 2

    @property
    def sum(self) -> int:
        """Both together."""
        return self.x + self.y


def test_it_is_a_tuple_with_names() -> None:
    """Fields, defaults, methods and what the class says of itself are there."""
    point = Point(1)
    assert ((1, 2), 3, "A place.", __name__) == (point, point.sum, Point.__doc__, Point.__module__)
    assert "Point(x=1, y=3)" == repr(point._replace(y=3))
    assert isinstance(point, tuple)
    assert ("x", "y") == Point._fields


def test_it_is_one_of_its_class() -> None:
    """It can be pickled, matched and taken apart; nothing can be put into it."""
    point = pickle.loads(pickle.dumps(Point(3, 4)))
    assert (Point, 3, 4) == (type(point), *point)
    with pytest.raises(AttributeError):
        point.x = 5


def test_a_field_without_a_default_after_one_with() -> None:
    """Such a class is refused."""
    with pytest.raises(TypeError):

        class _Wrong(NamedTuple):
            x: int = 1
            y: int  # type: ignore[misc]
