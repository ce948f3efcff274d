"""What `--volume` and `--tmpfs` mean."""

from __future__ import annotations

import pytest

from rootless_sb.errors import SbError
from rootless_sb.steps import AttachVolume
from rootless_sb.volumes import Scratch, Volume, parse_scratch, parse_volume, read_only_within, volume_steps


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


def test_read_only_paths_within() -> None:
    """The innermost volume counts, and only what lies in one that can be written to needs another."""
    volumes = (Volume("/data", "/d", False), Volume("/other", "/d/in", False), Volume("/fixed", "/f", True))
    paths = ("/d/x", "/d/in/y/", "/d/in", "/f/z", "/dd", "/", "/elsewhere")
    assert (
        Volume("/data/x", "/d/x", True),
        Volume("/other/y", "/d/in/y", True),
        Volume("/other", "/d/in", True),
    ) == read_only_within(volumes, paths)


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
