"""`--engine kernel` on images."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.images.archives import Member, archive, directory, link, symlink

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.images.conftest import Images

LOWER = archive(
    directory("srv", 0o2750, uid=33, gid=50),
    Member("srv/secret", b"secret\n", mode=0o640, uid=33, gid=33),
    symlink("srv/link", "secret"),
    Member("bin/privileged", b"#!/bin/sh\n", mode=0o4755),
    link("bin/also", "bin/privileged"),
    directory("gone"),
    Member("gone/file", b"x"),
    Member("srv/old", b"x", uid=5),
)
UPPER = archive(
    Member(".wh.gone"),
    directory("srv", 0o2750, uid=33, gid=50),
    Member("srv/.wh.old"),
    Member("srv/locked", b"", mode=0, uid=7, gid=8),
)
LOOK = "find / -xdev | sort | while read name; do stat -c '%n %F %a %u %g %h %s %Y' $name; done"


def test_an_image_is_the_same(images: Images, loaded: Callable[..., str], subordinate_ids: int) -> None:
    """Owners, modes, links and times are those that sb's own overlay shows."""
    assert subordinate_ids
    name = loaded(LOWER, UPPER)
    said = [images.inside(name, "sh", "-c", LOOK, options=("--engine", each)) for each in ("fuse", "kernel")]
    seen = [[line for line in each.splitlines() if wanted(line)] for each in said]
    assert seen[0] == seen[1]
    assert any(line.startswith("/srv/secret regular file 640 33 33 1 7 1000000000") for line in seen[1])


def wanted(line: str) -> bool:
    """Whether a line of LOOK is the image's. Directories' times, link counts and sizes are the engines' own."""
    return " directory " not in line and not line.startswith(("/proc", "/sys", "/dev", "/etc/"))


def test_directories_are_the_same(images: Images, loaded: Callable[..., str], subordinate_ids: int) -> None:
    """Their owners and modes are, too; /tmp is sticky."""
    assert subordinate_ids
    name = loaded(LOWER, UPPER)
    look = "stat -c '%n %a %u %g' / /srv /tmp /root /bin; ls /"
    seen = [images.inside(name, "sh", "-c", look, options=("--engine", each)) for each in ("fuse", "kernel")]
    assert seen[0] == seen[1]
    assert "/srv 2750 33 50" in seen[1]


def test_changes(images: Images, loaded: Callable[..., str], subordinate_ids: int) -> None:
    """diff says what was changed and nothing of how the image was shown."""
    assert subordinate_ids
    name = loaded(LOWER, UPPER)
    script = "echo more >>/srv/secret; rm /srv/link; echo x >/srv/new; chown 5 /srv/new"
    for each in ("fuse", "kernel"):
        done = images("--image", name, "--engine", each, "--name", each, "--", "sh", "-euc", script)
        assert (0, "") == (done.returncode, done.stderr)
    first, second = (
        json.loads(images.command("diff", "--json", each).stdout)["changes"] for each in ("fuse", "kernel")
    )
    assert first == second
    assert 3 == len([each for each in second if each["path"].startswith("/srv/")])
    assert 0 == images.command("start", "-a", "kernel", "--", "cat", "/srv/new").returncode
    assert 0 == images.command("rm", "fuse", "kernel").returncode


@pytest.mark.parametrize("options", [(), ("--userns", "single")])
def test_device_nodes_are_refused(images: Images, loaded: Callable[..., str], options: tuple[str, ...]) -> None:
    """The kernel lets nobody but the host's root make one; sb's own overlay shows it."""
    name = loaded(archive(Member("node", kind=tarfile.CHRTYPE, device=(1, 3))))
    done = images("--image", name, "--engine", "kernel", *options, "--", "true")
    assert (125, True) == (done.returncode, "/node is a device node" in done.stderr), done.stderr
    assert "" == images.inside(name, "true", options=options)
