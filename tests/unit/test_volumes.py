"""What `--volume` and `--tmpfs` mean."""

from __future__ import annotations

import pytest

from rootless_sb.errors import SbError
from rootless_sb.kernel.mounts import NOEXEC, RDONLY
from rootless_sb.spec import RunSpec
from rootless_sb.steps import AttachVolume, BindHost, HoldInVolume, MakeDirectory
from rootless_sb.volumes import (
    Scratch,
    Volume,
    held_repository,
    hidden_on_host,
    name_to_cover,
    parse_scratch,
    parse_volume,
    pins,
    read_only_within,
    require_apart,
    require_others,
    volume_steps,
    with_held,
    without_hidden,
)


@pytest.mark.parametrize(
    ("command", "directory", "shown", "found"),
    [
        (("git", "init"), "/w", (), "/a/.git"),
        (("/usr/bin/git", "-c", "x=y", "init", "-q"), "/w/", (), "/a/.git"),
        (("sh", "-c", "ls; git init && make"), "/w", (), "/a/.git"),
        (("git", "init"), "/w", ("/a/.git",), None),
        (("git", "init"), "/w", ("/a",), None),
        (("git", "init"), "/w/inner", (), None),
        (("git", "init"), "/r", (), None),
        (("git", "status"), "/w", (), None),
        (("init", "git"), "/w", (), None),
        ((), "/w", (), None),
    ],
)
def test_a_repository_that_is_held(
    command: tuple[str, ...], directory: str, shown: tuple[str, ...], found: str | None
) -> None:
    """It is where the command works, at the top of a volume that can be written to, if it isn't shown."""
    wanted = RunSpec(volumes=("/a:/w:rw", "/b:/r:ro"), shown=shown)
    assert found == held_repository(wanted, command, directory)


def test_one_place_one_mount() -> None:
    """What is mounted at the same place as something before it is named; beneath it is another place."""
    data, other, below = (Volume(*paths, False) for paths in (("/a", "/data"), ("/b", "/data"), ("/b", "/data/b")))
    require_apart((data, below), (parse_scratch("/data/c"),))
    with pytest.raises(SbError, match="--volume /b:/data: something else is mounted at /data already"):
        require_apart((data, other), ())
    with pytest.raises(SbError, match="--tmpfs /data: something else is mounted at /data already"):
        require_apart((data,), (parse_scratch("/data/.:size=1m"),))


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


def test_what_is_sbs_own_is_no_volume() -> None:
    """Neither such a directory nor what lies in it; above it, it is covered."""
    own = ("/home/sb", "/run/sb")
    for source in ("/run/sb", "/run/sb/agent"):
        with pytest.raises(SbError, match="sb's own"):
            require_others((Volume(source, "/x", True),), own)
    require_others((Volume("/run", "/x", True), Volume("/run/sbx", "/run/sb", True)), own)


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
    assert Scratch("/x", "size=1g,mode=1777") == parse_scratch("/x:size=1g")
    strict = parse_scratch("/x:ro,noexec,nosuid,size=64m,mode=0700")
    assert Scratch("/x", "size=64m,mode=0700", RDONLY | NOEXEC) == strict


@pytest.mark.parametrize(
    "text", ["x", "", "/", "/x:size", "/x:size=", "/x:size=bad", "/x:mode=9", "/x:nosuch", "/x:ro=1"]
)
def test_what_is_no_tmpfs(text: str) -> None:
    """One line, with a hint: the kernel would only say EINVAL."""
    with pytest.raises(SbError) as caught:
        parse_scratch(text)
    assert caught.value.hint


def test_those_above_come_first() -> None:
    """Whatever order they were said in, none is covered by another."""
    steps = volume_steps((Volume("/a", "/x/y/z", False), Volume("/b", "/x", False)), (Scratch("/x/y", ""),))
    assert ["/x", "/x/y", "/x/y/z"] == [step.target for step in steps if isinstance(step, AttachVolume)]
    assert () == volume_steps((), ())


def test_what_is_above_a_read_only_path_is_pinned() -> None:
    """The directories between it and the top of the innermost volume, if that can be written to."""
    volumes = (Volume("/data", "/d", False), Volume("/other", "/d/in", False), Volume("/fixed", "/f", True))
    held = pins(volumes, ("/d/a/b/c", "/d/a/x", "/d/in/y", "/d/in/z/y", "/f/q/r", "/e/l"))
    assert [("volumes/0", "a"), ("volumes/0", "a/b"), ("volumes/1", "z")] == [(each.place, each.path) for each in held]
    assert not any(each.read_only for each in held)


def test_what_is_held_comes_before_volumes_are_attached() -> None:
    """A volume is complete before anybody can reach it."""
    held = (HoldInVolume("volumes/0", "a", True),)
    steps = with_held(volume_steps((Volume("/a", "/x", False),), ()), held)
    assert [MakeDirectory, BindHost, HoldInVolume, AttachVolume] == [type(step) for step in steps]


def test_hidden_paths_inside_are_paths_of_the_host() -> None:
    """Every volume that a path lies in is meant, and a volume's own place isn't."""
    volumes = (Volume("/data", "/d", False), Volume("/other", "/d/in", False), Volume("/", "/host", False))
    assert ("/data/x",) == hidden_on_host(volumes, ("/d/x", "/d", "/dd"))
    assert ("/data/in/y", "/other/y") == hidden_on_host(volumes, ("/d/in/y",))
    assert ("/etc",) == hidden_on_host(volumes, ("/host/etc",))


def test_what_is_covered_in_a_volume() -> None:
    """What lies in its source, unless another volume goes there; one that would go beneath it is an error."""
    assert "a/b" == name_to_cover("/data/a/b", "/data", ("a/c", "a/bb/c"))
    assert "etc" == name_to_cover("/etc", "/", ())
    for path in ("/data", "/", "/database/x", "/data/x"):
        assert name_to_cover(path, "/data", ("x",)) is None
    with pytest.raises(SbError) as caught:
        name_to_cover("/data/a", "/data", ("a/b",))
    assert caught.value.hint


def test_what_is_hidden_is_not_bound_again() -> None:
    """Neither itself, nor what is in it, nor what its pattern means."""
    volumes = tuple(Volume(source, source, True) for source in ("/a/key1", "/a/key2/x", "/a/other", "/b"))
    assert volumes[2:3] == without_hidden(volumes, ("/a/key*", "/b"))
