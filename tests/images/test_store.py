"""The store: shared layers, names, who uses an image, moves, other people's stores, and what a kill leaves."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from rootless_sb.image import reference
from rootless_sb.image.store import Store
from tests.images.archives import Member, archive, directory
from tests.sandbox.running import PATIENCE, SB, eventually, stdout_until, tell

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Count
    from tests.images.conftest import Images
    from tests.images.layouts import Layout
    from tests.images.registries import Registry

ONE = archive(Member("one", b"1"))
TWO = archive(Member("two", b"2"))


def layers(images: Images) -> set[str]:
    """The layers in the store, and whatever else lies beside them."""
    return {path.name for path in (images.store / "layers").iterdir()} - {"empty"}


def load(images: Images, layout: Layout) -> None:
    """Load all images of a layout."""
    images.image("load", "-q", "-i", str(layout.path))


def test_layers_are_shared_and_go_with_the_last_image(images: Images, layout: Layout) -> None:
    """Two images with a common layer have three layers in all; removing one leaves the other's."""
    layout.image([ONE, TWO], "a:1")
    layout.image([ONE], "b:1")
    load(images, layout)
    assert 2 == len(layers(images))
    images.image("rm", "a:1")
    assert 1 == len(layers(images))
    assert {"docker.io/library/b:1"} == images.names()
    images.image("rm", "b:1")
    assert set() == layers(images)
    assert "there is no image b:1 here" in images.refused("rm", "b:1")


def test_a_name_that_goes_while_names_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ls` beside `rm` doesn't list it, and doesn't fail."""
    store = Store(str(tmp_path))
    store.name(reference.parse("a:1"), "0" * 64)
    readlink = os.readlink

    def read_what_has_gone(path: str) -> str:
        os.unlink(path)
        return readlink(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "readlink", read_what_has_gone)
        assert {} == store.names()


def test_an_image_with_several_names(images: Images, layout: Layout) -> None:
    """It goes with its last name; by its id only with -f, which takes all names."""
    made = layout.image([ONE], "a:1")
    layout.list(made, "b:1")
    load(images, layout)
    identifier = next(iter(images.ls()))
    images.image("rm", "a:1")
    assert {"docker.io/library/b:1"} == images.names()
    load(images, layout)
    assert "it has several names: a:1, b:1" in images.refused("rm", identifier[:12])
    images.image("rm", "-f", identifier[:12])
    assert {} == images.ls()


def test_a_name_moves_and_prune_takes_what_has_none(images: Images, layout: Layout, tmp_path: Path) -> None:
    """A tag that means another image now leaves the old one without a name; prune removes it, its layers and blobs."""
    from tests.images.layouts import Layout as NewLayout

    layout.image([ONE], "a:1")
    load(images, layout)
    newer = NewLayout(tmp_path / "newer")
    newer.image([TWO], "a:1")
    load(images, newer)
    assert 2 == len(images.ls())
    assert "<none>" in images.image("ls")
    assert "would be removed for good" in images.refused("prune")
    images.image("prune", "-f")
    assert 1 == len(images.ls())
    assert 1 == len(layers(images))
    blobs = sorted((images.place / "cache/sb/blobs/sha256").iterdir())
    assert 2 == len(blobs)  # the layer's and the configuration's
    images.image("prune", "-af")
    assert {} == images.ls()


def test_an_image_that_a_sandbox_uses_stays(images: Images, loaded: Callable[..., str]) -> None:
    """Neither rm nor prune takes it, be the sandbox running or kept; with -f it loses its name, and nothing else."""
    name = loaded()
    running = images.start("--image", name, "--", "cat")
    tell(running, "x\n")
    stdout_until(running, b"x")
    assert "a sandbox runs on it" in images.refused("rm", name) or "sandboxes use it" in images.refused("rm", name)
    running.kill()
    running.wait()
    eventually(lambda: not images.left_behind())
    loaded()
    assert 0 == images("--image", name, "--name", "kept", "--", "sh", "-c", "echo changed >/etc/note").returncode
    assert "sandboxes use it: kept" in images.refused("rm", name)
    images.image("rm", "-f", name)
    images.image("prune", "-af")
    done = images.command("start", "-a", "kept", "cat", "/etc/note")
    assert (0, "changed\n") == (done.returncode, done.stdout), done.stderr
    assert name == json.loads(images.command("inspect", "kept").stdout)["sandboxes"][0]["image"]
    images.command("rm", "kept")
    images.image("prune", "-f")
    assert ({}, set()) == (images.ls(), layers(images))


def test_prune_says_what_was_freed(images: Images, layout: Layout, tmp_path: Path) -> None:
    """A layer that another image has isn't."""
    from tests.images.layouts import Layout as NewLayout

    large = archive(Member("large", os.urandom(3_000_000)))
    layout.image([large, ONE], "a:1")
    load(images, layout)
    newer = NewLayout(tmp_path / "newer")
    newer.image([large], "a:1")
    load(images, newer)
    said = images.try_image("prune", "-f").stderr
    assert said.endswith("kB freed\n"), said
    assert "MB freed" in images.try_image("prune", "-af").stderr


def test_prune_looks_once_more_when_it_was_told_to(images: Images, loaded: Callable[..., str]) -> None:
    """An image that a sandbox has come to use while the person was asked stays, with its name."""
    name = loaded()
    keyboard, terminal = os.openpty()
    command = [str(SB), "image", "prune", "-a"]
    process = subprocess.Popen(command, env=images.environment, stdin=terminal, stderr=subprocess.PIPE)
    images.adopt(process)
    assert process.stderr is not None
    asked = b""
    while not asked.endswith(b"[y/N] "):
        asked += os.read(process.stderr.fileno(), 1)
    assert 0 == images("--image", name, "--name", "kept", "--", "touch", "/new").returncode
    os.write(keyboard, b"y\n")
    assert 0 == process.wait(PATIENCE)
    assert {"docker.io/library/test:1"} == images.names()
    images.command("rm", "kept")
    for end in (keyboard, terminal):
        os.close(end)
    process.stderr.close()


@pytest.mark.parametrize(
    ("command", "status"),
    [
        *(("image ls >&-", 0), ("image save test:1 >&-", 0), ("ps >&-", 0), ("image ls 2>&-", 0)),
        *(("image prune -a <&-", 125), ("image load <&-", 125)),
    ],
)
def test_streams_that_are_closed(images: Images, loaded: Callable[..., str], command: str, status: int) -> None:
    """Who closes one gets no traceback for it."""
    loaded()
    done = subprocess.run(
        ["sh", "-c", f'"$0" {command}', SB], env=images.environment, capture_output=True, text=True, check=False
    )
    assert (status, False) == (done.returncode, "Traceback" in done.stderr), done.stderr


def test_a_store_can_be_moved(images: Images, loaded: Callable[..., str]) -> None:
    """By mv, and then SB_DATA_HOME: everything in it goes on working."""
    name = loaded(archive(Member("etc/note", b"moved", uid=7)))
    elsewhere = images.place / "elsewhere"
    shutil.move(images.store, elsewhere)
    images.environment["SB_DATA_HOME"] = str(elsewhere)
    assert "moved 7" == images.inside(name, "sh", "-c", "echo $(cat /etc/note) $(stat -c %u /etc/note)").strip()


def test_another_persons_store(images: Images, loaded: Callable[..., str]) -> None:
    """A store that can only be read serves its images; nothing is written to it, and layers in it aren't the user's to
    remove."""
    name = loaded(archive(Member("secret", b"x", mode=0o600), directory("closed", 0o700), Member("closed/f", b"y")))
    site = images.place / "site"
    shutil.move(images.store, site)
    _close(site)
    images.config.write_text(f'[store]\nread_only = ["{site}"]\n')
    try:
        assert "xy" == images.inside(name, "sh", "-c", "cat /secret /closed/f; touch /new").strip()
        assert [str(site)] == [each["store"] for each in images.ls().values()]
        assert 0o700 == stat.S_IMODE((images.store / "layers").stat().st_mode)  # for what lies beneath every image
        assert "there is no image" in images.refused("rm", name)
    finally:
        _open(site)


def _close(top: Path) -> None:
    for path, _, files in os.walk(top, topdown=False):
        for name in files:
            if not os.path.islink(f"{path}/{name}"):
                os.chmod(f"{path}/{name}", os.lstat(f"{path}/{name}").st_mode & ~0o222)
        os.chmod(path, os.stat(path).st_mode & ~0o222)


def _open(top: Path) -> None:
    for path, _, _ in os.walk(top):
        os.chmod(path, os.stat(path).st_mode | 0o700)


def test_a_store_that_others_may_read(images: Images, layout: Layout) -> None:
    """Where the store's directories are open to others, so are the layers: all of their owners and modes are data."""
    (images.store / "layers").mkdir(parents=True)
    (images.store / "images").mkdir()
    for name in ("", "layers", "images"):
        (images.store / name).chmod(0o755)
    layout.image([archive(Member("secret", b"x", mode=0o600), directory("closed", 0o700))], "a:1")
    load(images, layout)
    for path in (images.store / "layers", images.store / "images"):
        for each in path.rglob("*"):
            wanted = 0o555 if each.is_dir() else 0o444
            if "lock" not in each.name and not each.name.startswith(".wh.") and "empty" not in each.parts:
                assert wanted == each.stat().st_mode & wanted, each


@pytest.mark.parametrize("point", ["unpacking", "layer-unpacked", "layers-added", "image-written", "name-written"])
def test_a_kill_at_each_point(images: Images, layout: Layout, point: str) -> None:
    """Nothing half is to be seen, what was there stays, and the next one succeeds and leaves nothing over."""
    layout.image([ONE], "a:1")
    load(images, layout)
    layout.image([ONE, TWO], "b:1")
    done = images.try_image("load", "-i", str(layout.path), variables={"SB_FAULT": point})
    assert done.returncode != 0
    assert "docker.io/library/a:1" in images.names()
    for identifier in images.ls():
        images.image("inspect", identifier)
    load(images, layout)
    assert {"docker.io/library/a:1", "docker.io/library/b:1"} == images.names()
    images.image("prune", "-f")
    assert 2 == len(layers(images))
    assert all(len(name) == 64 for name in layers(images))


def test_a_kill_while_layers_are_removed(images: Images, layout: Layout) -> None:
    """The next prune takes the rest, and a layer that comes back is whole."""
    layout.image([ONE, TWO], "a:1")
    load(images, layout)
    assert -signal.SIGKILL == images.try_image("rm", "a:1", variables={"SB_FAULT": "layers-hidden"}).returncode
    load(images, layout)
    images.image("rm", "a:1")
    assert set() == layers(images)


def test_pulls_that_are_killed_at_random_moments(
    images: Images, layout: Layout, registry: Registry, count: Count
) -> None:
    """Whenever a pull is killed, the store lists only what is whole, and in the end a pull finishes the work."""
    chosen = random.Random(7)
    content = [archive(*(Member(f"d{n}/f{i}", os.urandom(2000)) for i in range(150))) for n in range(4)]
    layout.image(content, "big")
    name = registry.add(layout.path, "big", "plain/killed:1")
    started = time.monotonic()
    images.image("pull", "-q", name)
    takes = time.monotonic() - started
    for _ in range(count(8, 100)):
        images.image("prune", "-af")
        process = images.start_image("pull", "-q", name)
        time.sleep(chosen.uniform(0, takes))
        process.kill()
        process.wait()
        assert images.names() <= {name}
        for each in layers(images):
            if len(each) == 64:
                tree = images.store / "layers" / each / "tree"
                assert 150 == sum(len(files) for path, _, files in os.walk(tree) if path != str(tree))
    images.image("pull", "-q", name)
    assert {name} == images.names()
    images.image("prune", "-f")
    assert 4 == len(layers(images))


def test_several_pulls_at_once(images: Images, layout: Layout, registry: Registry) -> None:
    """All succeed, and each blob is fetched once."""
    layout.image([archive(Member("f", os.urandom(400_000))), ONE], "x")
    name = registry.add(layout.path, "x", "plain/atonce:1")
    before = registry.requests("GET", "plain/atonce/blobs/")
    processes = [images.start_image("pull", "-q", name) for _ in range(4)]
    assert [0] * 4 == [process.wait(PATIENCE) for process in processes]
    assert 3 == registry.requests("GET", "plain/atonce/blobs/") - before
    assert {name} == images.names()


def test_a_record_of_another_version(images: Images, layout: Layout) -> None:
    """It is an error with what to do, and no guess."""
    layout.image([ONE], "a:1")
    load(images, layout)
    record = next((images.store / "images").glob("*/record"))
    record.write_bytes(b"schema=99\n")
    assert "its record has version 99, this sb reads 1 | sb image pull it again" in images.refused("inspect", "a:1")
