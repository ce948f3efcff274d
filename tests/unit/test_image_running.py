"""What a run takes from an image, records of images, and what config.toml says of registries and stores."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rootless_sb import plan as planning
from rootless_sb.errors import SbError
from rootless_sb.image import hosts, record, running
from rootless_sb.image.record import Image
from rootless_sb.image.running import Base
from rootless_sb.settings import Document
from rootless_sb.spec import RunSpec
from tests.unit.hosts import HOST

TEXT = some.binary().map(lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape"))
TEXTS = some.lists(TEXT, max_size=3).map(tuple)
IMAGES = some.builds(
    Image,
    **{name: TEXTS if default == () else TEXT for name, default in Image._field_defaults.items() if name != "size"},
    identifier=TEXT,
    size=some.integers(0),
)
IMAGE = Image("1" * 64, entrypoint=("entry",), command=("one", "two"))


@given(IMAGES)
def test_records_are_read_as_they_were_written(image: Image) -> None:
    """Any text survives."""
    assert image == record.decode(record.encode(image))


@pytest.mark.parametrize("data", [b"", b"x", b"schema=2\n", b"schema=1\n", b"schema=1\nidentifier=x\nsize=y\n"])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    """With the version, or that it is damaged."""
    with pytest.raises(record.RecordError, match=r"version|damaged"):
        record.decode(data)


@pytest.mark.parametrize(
    ("asked", "entrypoint", "words"),
    [
        ((), None, ("entry", "one", "two")),
        (("own",), None, ("entry", "own")),
        ((), "other", ("other",)),
        (("own",), "other", ("other", "own")),
        (("own",), "", ("own",)),
    ],
)
def test_the_command(asked: tuple[str, ...], entrypoint: str | None, words: tuple[str, ...]) -> None:
    """Entrypoint and arguments go together as with docker."""
    assert words == running.command(IMAGE, asked, entrypoint)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("SIGQUIT", signal.SIGQUIT), ("quit", signal.SIGQUIT), ("3", 3), ("SIGRTMIN+3", signal.SIGRTMIN + 3)),
        *(("", signal.SIGTERM), ("SIGNONSENSE", signal.SIGTERM), ("999", signal.SIGTERM), ("SIG_DFL", signal.SIGTERM)),
        *(("0", signal.SIGTERM), ("SIGRTMAX+9", signal.SIGRTMAX), ("Signals", signal.SIGTERM)),
    ],
)
def test_stop_signals(text: str, number: int) -> None:
    """By name and by number; what is none is SIGTERM."""
    assert number == running.stop_signal(text)


def test_the_plan_of_a_run_on_an_image() -> None:
    """Layers that never change, nothing of the caller's environment, the image's user only where there are users."""
    image = IMAGE._replace(environment=("A=1",), user="web", directory="srv", volumes=("/data",), stop_signal="SIGINT")
    base = Base(image, "/store/images/1", ("/store/top", "/store/empty"))
    plan = planning.make_plan(RunSpec(image="x", hidden=("/etc/shadow",)), HOST, (), "0123456789ab", base)
    assert [(b"/store/top", True, False), (b"/store/empty", True, False)] == [
        tuple(each) for each in plan.overlay.lowers
    ]
    assert (b"/store/top/etc/shadow", b"/store/empty/etc/shadow") == plan.overlay.hidden
    assert (("entry", "one", "two"), "/srv", "web", 0o022) == (
        plan.target.arguments,
        plan.target.directory,
        plan.target.user,
        plan.target.umask,
    )
    assert {"PATH": running.PATH, "HOSTNAME": "0123456789ab", "A": "1"} == dict(plan.target.environment)
    assert ("1" * 64, signal.SIGINT) == (plan.record.image, plan.record.stop_signal)
    assert plan.with_one_id is not None
    assert "" == plan.with_one_id.target.user


def document(**tables: object) -> Document:
    """A configuration file."""
    return Document("/c", tables)


def test_registries_and_stores() -> None:
    """Insecure hosts add up, the nearer file's mirrors and stores come first."""
    site = document(
        registries={"insecure": ["a:1"], "mirrors": {"docker.io": ["m"], "x": ["y"]}}, store={"read_only": ["/s"]}
    )
    own = document(registries={"insecure": ["b"], "mirrors": {"docker.io": ["n"]}}, store={"read_only": ["/o", "/s"]})
    known = hosts.understand((site, own))
    assert [True, True, True, False] == [known.may_be_insecure(each) for each in ("a:1", "b", "127.0.0.1:5", "c")]
    assert ("n", "registry-1.docker.io") == known.to_ask("docker.io")
    assert (("y", "x"), ("z",)) == (known.to_ask("x"), known.to_ask("z"))
    assert ("/o", "/s") == hosts.read_only_stores((site, own))


@pytest.mark.parametrize(
    ("tables", "why"),
    [
        ({"registries": {"insecur": []}}, "unknown name insecur"),
        ({"registries": {"insecure": "a"}}, "not a list of texts"),
        ({"registries": {"mirrors": []}}, "not a table"),
        ({"registries": []}, "not a table"),
        ({"store": {"read_only": ["relative"]}}, "not an absolute path"),
    ],
)
def test_bad_configurations(tables: dict[str, object], why: str) -> None:
    """Each is named with its file."""
    understand = hosts.read_only_stores if "store" in tables else hosts.understand
    with pytest.raises(SbError, match=why):
        understand((document(**tables),))
