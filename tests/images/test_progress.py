"""What a pull shows meanwhile: bars on a terminal, lines elsewhere, nothing with -q; data alone on stdout."""

from __future__ import annotations

import os
import pty
import subprocess
from typing import TYPE_CHECKING

from tests.images.archives import Member, archive
from tests.sandbox.running import PATIENCE, SB

if TYPE_CHECKING:
    from tests.images.conftest import Images
    from tests.images.layouts import Layout


def test_lines_without_a_terminal(images: Images, layout: Layout) -> None:
    """One for each layer on stderr; on stdout the name and nothing else."""
    layout.image([archive(Member("f", b"x" * 3000)), archive(Member("g"))], "a:1")
    done = images.try_image("load", "-i", str(layout.path))
    assert "a:1\n" == done.stdout
    assert 2 == len(done.stderr.splitlines())
    assert all(line.startswith("sb: layer ") for line in done.stderr.splitlines())
    assert "" == images.try_image("load", "-q", "-i", str(layout.path)).stderr


def test_bars_on_a_terminal(images: Images, layout: Layout) -> None:
    """A bar for each layer, in which the cursor stays to be seen; none where the terminal can't."""
    layout.image([archive(Member("f", b"x" * 3000)), archive(Member("g"))], "a:1")
    for term, bars in (("xterm", True), ("dumb", False)):
        images.image("prune", "-af")
        master, slave = pty.openpty()
        subprocess.run(
            [SB, "image", "load", "-i", str(layout.path)],
            env={**images.environment, "TERM": term},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=slave,
            timeout=PATIENCE,
            check=True,
        )
        os.close(slave)
        shown = os.read(master, 1 << 16).decode()
        os.close(master)
        assert bars == ("━" in shown), shown
        assert "\x1b[?25l" not in shown
        assert bars == ("\x1b[" in shown)
