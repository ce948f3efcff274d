"""A mounted overlay beside a plain directory and the kernel's overlayfs: the same acts and the same outcome."""

from __future__ import annotations

import pickle
import select
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.overlay import machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Count
    from tests.overlay.acts import Act, Picture

# How long an act may take, in seconds, before it counts as hanging.
PATIENCE = 60
ACTOR = "tests.overlay.actor"
IN_NAMESPACE = ("unshare", "--user", "--map-root-user", "--map-auto", "--mount")


class Actor:
    """A process that does the acts, in a user namespace with subordinate ids."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.runs = 0
        self._process = subprocess.Popen(
            [*IN_NAMESPACE, sys.executable, "-m", ACTOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, *request: object) -> tuple[list[object], list[Picture]]:
        """Have one request answered."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            self._process.kill()
            raise TimeoutError(f"no answer to {request}")
        outcome, pictures = pickle.load(self._process.stdout)
        return outcome, pictures

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)


@pytest.fixture
def actor(tmp_path: Path) -> Iterator[Actor]:
    """A process that does the acts."""
    if subprocess.run([*IN_NAMESPACE, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("unshare --map-auto doesn't work here: util-linux 2.38, newuidmap and subordinate ids")
    process = Actor(tmp_path)
    yield process
    process.close()


class MountedMachine(machine.Machine):
    """Drives a mounted overlay and a plain directory."""

    file_modes = (0o600, 0o640, 0o755, 0o4755, 0o2755, 0)
    directory_modes = (0o700, 0o755, 0o2755, 0o1777, 0)
    ids = (-1, 0, 1, 1000)
    actor: Actor
    kernel = False

    def begin(self, layers: list[tuple[dict[str, Any], list[tuple[str, str]]]]) -> tuple[Picture, Picture]:
        """Have the places made."""
        self.actor.runs += 1
        return self.chosen(self.actor.ask("begin", f"{self.actor.base}/{self.actor.runs}", layers, self.kernel)[1])

    def act(self, act: Act) -> tuple[tuple[object, object], tuple[Picture, Picture]]:
        """Have an act done in all places."""
        if self.keeps_its_size(act):
            return (None, None), self.pictures
        outcome, pictures = self.actor.ask("act", act)
        return (outcome[0], outcome[1]), self.chosen(pictures)

    def keeps_its_size(self, act: Act) -> bool:
        """Whether a file is truncated to its own size: some file systems move its mtime then, and FUSE doesn't."""
        if act[0] == "truncate":
            return bool(len(self.pictures[0][act[1]].same[5]) == act[2])
        if act[0] == "ftruncate":
            seen: Any = self.actor.ask("act", ("seen_by", act[1]))[0][0]
            return seen is not None and bool(seen[0] == act[2])
        return False

    def restart(self) -> tuple[Picture, Picture]:
        """Have the overlay mounted anew."""
        return self.chosen(self.actor.ask("restart")[1])

    def chosen(self, pictures: list[Picture]) -> tuple[Picture, Picture]:
        """What is to be compared."""
        return pictures[0], pictures[1]

    def teardown(self) -> None:
        """Have all removed."""
        self.actor.ask("end")


class KernelMachine(MountedMachine):
    """Drives a mounted overlay and the kernel's.

    They don't mean the same by hard links of lower files, open files that are copied up, and inode numbers; the
    kernel's renames no directory that has a lower part.
    """

    kernel = True

    def act(self, act: Act) -> tuple[tuple[object, object], tuple[Picture, Picture]]:
        """Have an act done in all places, if they mean the same by it."""
        if act[0] == "rename" and stat.S_IFDIR in (self.kind(act[1]), self.kind(act[2])):
            return (None, None), self.pictures
        if act[0] in ("open", "link") or self.keeps_its_size(act):
            return (None, None), self.pictures
        outcome, pictures = self.actor.ask("act", act)
        return (outcome[2], outcome[1]), self.chosen(pictures)

    def touched(self, act: Act, picture: Picture) -> tuple[str, ...]:
        """None: what ends with an error has been copied up there, and another ctime."""
        return ()

    def begin(self, layers: list[tuple[dict[str, Any], list[tuple[str, str]]]]) -> tuple[Picture, Picture]:
        """Have the places made, of layers with the kernel's own marks only."""
        return super().begin([(without_marks(tree), []) for tree, _ in layers])

    def chosen(self, pictures: list[Picture]) -> tuple[Picture, Picture]:
        """The kernel's and ours, but for the inode numbers."""
        return unnumbered(pictures[2]), unnumbered(pictures[1])


def without_marks(tree: dict[str, Any]) -> dict[str, Any]:
    """A layer without the marks that the kernel doesn't know."""
    return {
        name: without_marks(what) if isinstance(what, dict) else what
        for name, what in tree.items()
        if not name.startswith(".wh.")
    }


def unnumbered(picture: Picture) -> Picture:
    """What was seen, with numbers that stand for the paths."""
    return {path: seen._replace(ino=hash(path)) for path, seen in picture.items()}


def test_the_same_acts_mean_the_same(actor: Actor, count: Count) -> None:
    """A mounted overlay and a plain directory agree throughout, owners and special bits included."""
    MountedMachine.actor = actor
    machine.run(MountedMachine, count(25, 600), 50, long=count(0, 1) == 1)


def test_the_kernel_means_the_same(actor: Actor, count: Count) -> None:
    """A mounted overlay and the kernel's, over the same layers, agree where both mean the same."""
    KernelMachine.actor = actor
    machine.run(KernelMachine, count(15, 400), 50, long=count(0, 1) == 1)
