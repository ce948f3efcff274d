"""What a copy remembers of its original, as text."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fuse_overlay import origin
from fuse_overlay.origin import Origin

if TYPE_CHECKING:
    from pathlib import Path


def test_there_and_back(tmp_path: Path) -> None:
    """What is written is read; it is that of the file as long as nothing of it changes."""
    file = tmp_path / "file"
    file.write_text("x")
    known = origin.of(1 << 60, b"a/\xff", file.stat())
    assert known == origin.parse(origin.encode(known))
    assert known.is_of(file.stat())
    file.chmod(0o600)
    assert not known.is_of(file.stat())


def test_a_negative_time_survives() -> None:
    """A file from before 1970 has one."""
    known = Origin(5, 1, 2, 3, 4, -7, -8)
    assert known == origin.parse(origin.encode(known))


@pytest.mark.parametrize("value", [b"", b"x", b"1:2", b"1:2:3:4:5:6:x", b"-1", b"9" * 21])
def test_what_is_no_origin(value: bytes) -> None:
    """Whatever else is found there says nothing."""
    assert None is origin.parse(value)


def test_of_an_older_layer() -> None:
    """The number alone, as it was written before, is that of a file of which nothing else is known."""
    known = origin.parse(b"77")
    assert Origin(77) == known
    assert known is not None
    assert not known.is_of(os.stat("/"))
