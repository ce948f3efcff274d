"""State files: what is written is read again, and what isn't ours is refused with the reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rootless_sb import state
from rootless_sb.limits import Held
from rootless_sb.spec import RunSpec


def texts(absent: bytes) -> some.SearchStrategy[str]:
    """What the operating system can give: bytes that aren't UTF-8 too, without those that are absent."""
    return some.binary().map(lambda data: data.translate(None, absent).decode("utf-8", "surrogateescape"))


TEXT = texts(b"\0")
TEXTS = some.lists(TEXT, max_size=4).map(tuple)
NAMES = texts(b"\0=").map(lambda text: text or "x")
PAIRS = some.lists(some.tuples(NAMES, TEXT), max_size=4).map(tuple)
SPECS = some.builds(
    RunSpec,
    command=TEXTS,
    rootfs=some.none() | TEXT,
    tty=some.none() | some.booleans(),
    interactive=some.booleans(),
    environment=PAIRS,
    clear_environment=some.booleans(),
    unset_environment=TEXTS,
    workdir=some.none() | TEXT,
    hostname=some.none() | TEXT,
    hidden=TEXTS,
    userns=TEXT,
    allow_degraded=TEXTS,
    quiet=some.booleans(),
    verbose=some.booleans(),
    name=TEXT,
    keep=some.booleans(),
    detach=some.booleans(),
    timeout=some.floats(0, 1e9),
    user=TEXT,
    capabilities_added=TEXTS,
    capabilities_dropped=TEXTS,
    seccomp=TEXT,
    seccomp_profile=TEXT,
    nested=some.booleans(),
)
WORDS = some.text("ab%: ", min_size=1)
STATES = some.builds(
    state.State,
    identifier=TEXT,
    name=TEXT,
    kept=some.booleans(),
    status=TEXT,
    created=some.integers(),
    wanted=SPECS,
    command=TEXTS,
    directory=TEXT,
    environment=PAIRS,
    pid=some.integers(0),
    supervisor=some.integers(0),
    exit_code=some.none() | some.integers(0, 255),
    barriers=TEXTS,
    limits=some.lists(some.builds(Held, name=WORDS, value=WORDS, holders=some.lists(WORDS).map(tuple))).map(tuple),
    image=TEXT,
)
EXAMPLE = state.State("0123456789ab", "", False, state.RUNNING, 1, RunSpec(), ("true",), "/", (), 5, 4)


@given(STATES)
def test_what_is_written_is_read_again(written: state.State) -> None:
    """Any text survives: newlines, backslashes, other characters that end lines, bytes that aren't UTF-8."""
    assert written == state.decode(state.encode(written))


@given(some.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    """Bytes that are no state are a StateError and nothing else."""
    with pytest.raises(state.StateError):
        state.decode(data)


def test_another_version_is_refused_with_the_reason() -> None:
    """A state of another version says which version it has."""
    other = state.encode(EXAMPLE).replace(b"schema=1\n", b"schema=7\n")
    with pytest.raises(state.StateError, match="version 7"):
        state.decode(other)


def test_a_running_one_whose_lock_is_free_was_lost() -> None:
    """What says that it runs, while nobody holds its lock, was killed or didn't survive a reboot."""
    assert state.RUNNING == EXAMPLE.seen(locked=True).status
    assert (state.LOST, 0) == (EXAMPLE.seen(locked=False).status, EXAMPLE.seen(locked=False).pid)
    ended = state.ended(EXAMPLE, 3)
    assert ended == ended.seen(locked=False)
