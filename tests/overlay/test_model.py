"""The overlay without a mount beside a plain directory: the same acts in both, and the same outcome after each."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fuse_overlay import overlay
from fuse_overlay.handles import RESERVE
from fuse_overlay.layers import IN_USE, Budget
from fuse_overlay.work import Work
from tests.overlay import machine
from tests.overlay.acts import Acts, copy_out, let_time_pass, plant_layer
from tests.overlay.conftest import Stage
from tests.overlay.direct_acts import DirectActs

if TYPE_CHECKING:
    from fuse_overlay.config import Config
    from tests.conftest import Count
    from tests.overlay.acts import Act, Picture


class DirectMachine(machine.Machine):
    """Drives an overlay without a mount."""

    base: Path

    def begin(self, layers: list[tuple[dict[str, Any], list[tuple[str, str]]]]) -> tuple[Picture, Picture]:
        """Make the layers, the overlay and the plain directory."""
        self.directory = Path(tempfile.mkdtemp(dir=self.base))
        self.stage = Stage(self.directory)
        for number, (tree, links) in enumerate(layers):
            plant_layer(self.directory / f"lower{number}", tree, links)
        lowers = [self.stage.lower(f"lower{number}", {}) for number in range(len(layers))]
        self.config: Config = self.stage.config(*lowers)
        self.overlay = DirectActs(self.stage.drive(self.config))
        self.plain = Acts(str(self.directory / "plain"))
        copy_out(self.overlay.picture(), self.plain.top)
        return self.look()

    def act(self, act: Act) -> tuple[tuple[object, object], tuple[Picture, Picture]]:
        """Do an act in both places."""
        let_time_pass(str(self.directory / "scratch"))
        if act[0] == "forget":
            self.overlay.forget()
            return (None, None), self.look()
        return (self.plain.do(act), self.overlay.do(act)), self.look()

    def restart(self) -> tuple[Picture, Picture]:
        """Another overlay over the same layers."""
        self.plain.close_all()
        self.overlay.close_all()
        self.stage.close()
        self.overlay = DirectActs(self.stage.drive(self.config))
        return self.look()

    def look(self) -> tuple[Picture, Picture]:
        """What is in both places."""
        return self.plain.picture(), self.overlay.picture()

    def teardown(self) -> None:
        """Remove all."""
        if hasattr(self, "directory"):
            self.plain.close_all()
            self.stage.close()
            shutil.rmtree(self.directory)


def run(base: Path, count: Count) -> None:
    """Do acts at random."""
    mask = os.umask(0)
    try:
        DirectMachine.base = base
        machine.run(DirectMachine, count(40, 1000), 50, long=count(0, 1) == 1)
    finally:
        os.umask(mask)


@pytest.mark.parametrize(("devices", "xattrs"), [(True, True), (False, True), (True, False), (False, False)])
def test_the_same_acts_mean_the_same(
    tmp_path: Path, count: Count, monkeypatch: pytest.MonkeyPatch, devices: bool, xattrs: bool
) -> None:
    """Errors, names, types, link counts, inode numbers, modes, times, attributes and data agree throughout.

    Whichever marks the upper's file system allows for.
    """
    monkeypatch.setattr(Work, "_probe_devices", lambda work: devices)
    monkeypatch.setattr(Work, "_probe_xattrs", lambda work: xattrs)
    run(tmp_path, count)


@pytest.mark.parametrize("xattrs", [True, False])
@pytest.mark.parametrize("descriptors", [0, 1])
def test_without_descriptors(
    tmp_path: Path, count: Count, monkeypatch: pytest.MonkeyPatch, descriptors: int, xattrs: bool
) -> None:
    """The same when at most so many files can be held open."""
    monkeypatch.setattr(overlay, "_descriptors", lambda layers: Budget(IN_USE, IN_USE + RESERVE + descriptors))
    monkeypatch.setattr(Work, "_probe_xattrs", lambda work: xattrs)
    run(tmp_path, count)
