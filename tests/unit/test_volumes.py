"""What `--volume` and `--tmpfs` mean."""

from __future__ import annotations

import pytest

from rootless_sb.errors import SbError
from rootless_sb.steps import AttachVolume
from rootless_sb.volumes import Scratch, Volume, parse_scratch, parse_volume, volume_steps


@pytest.mark.parametrize(
    ("text", "volume"),
    [
        ("/data", Volume("/data", "/data", False)),
        ("/data:/x/../y//z", Volume("/data", "/y/z", False)),
        (".:/work", Volume("/here", "/work", False)),
        ("../a::ro", Volume("/a", "/a", True)),
        ("/data:/data:rw", Volume("/data", "/data", False)),
    ],
)
def test_volumes(text: str, volume: Volume) -> None:
    """As docker's, and SRC alone stands for both."""
    assert volume == parse_volume(text, "/here")


@pytest.mark.parametrize("text", ["", ":/x", "/a:x", "/a:/", "/a:/x:ro:y", "/a:/x:r", "/:"])
def test_what_is_no_volume(text: str) -> None:
    """One line, with a hint."""
    with pytest.raises(SbError) as caught:
        parse_volume(text, "/here")
    assert caught.value.hint


def test_a_tmpfs() -> None:
    """Everybody's to write to, unless its options say otherwise."""
    assert Scratch("/x", "mode=1777") == parse_scratch("/x")
    assert Scratch("/x", "size=1g") == parse_scratch("/x:size=1g")
    with pytest.raises(SbError):
        parse_scratch("x")


def test_those_above_come_first() -> None:
    """Whatever order they were said in, none is covered by another."""
    steps = volume_steps((Volume("/a", "/x/y/z", False), Volume("/b", "/x", False)), (Scratch("/x/y", ""),))
    assert ["/x", "/x/y", "/x/y/z"] == [step.target for step in steps if isinstance(step, AttachVolume)]
    assert () == volume_steps((), ())
