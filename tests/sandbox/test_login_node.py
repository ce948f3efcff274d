"""A login node of a cluster: the home is a network's, without xattrs, and nobody has made $XDG_RUNTIME_DIR.

bindfs stands for NFS: it renames a file that is removed while somebody has it open, and knows no xattrs.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.running import PATIENCE, SB, eventually, stdout_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


@pytest.fixture
def node(sb: Sandboxes, program: Callable[[str], Path], tmp_path: Path) -> Iterator[Sandboxes]:
    """Runs sb with such a home, in which it keeps its sandboxes."""
    home, unmount = tmp_path / "home", program("fusermount3")
    for directory in (tmp_path / "served", home):
        directory.mkdir()
    bindfs: list[str | Path] = [program("bindfs"), "-f", "--no-allow-other", "--xattr-none", tmp_path / "served", home]
    sb.adopt(subprocess.Popen(bindfs))
    eventually(lambda: os.path.ismount(home))
    for name in ("XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        sb.environment.pop(name, None)
    sb.environment["HOME"] = str(home)
    yield sb
    subprocess.run([unmount, "-uz", home], check=True)


def directories(node: Sandboxes) -> list[str]:
    """What there is in the store but the names."""
    store = f"{node.environment['HOME']}/.local/share/sb/sandboxes"
    return [name for name in os.listdir(store) if name != "names"]


def test_the_home_knows_no_xattrs(node: Sandboxes) -> None:
    """What this test stands for is so: xattrs are refused, and an open file that is removed stays as another."""
    path = f"{node.environment['HOME']}/file"
    with open(path, "w") as file:
        with pytest.raises(OSError, match="not supported"):
            os.setxattr(path, "user.x", b"y")
        os.unlink(path)
        assert [".fuse_hidden"] == [name[:12] for name in os.listdir(node.environment["HOME"])]
        file.write("still open")


def test_the_life_of_a_sandbox(node: Sandboxes) -> None:
    """Kept, entered, started again, stopped and removed; what is left on the network's disk goes with the next run."""
    assert 0 == node("--name", "box", "--", "sh", "-c", "echo kept >/etc/kept; ln -s kept /etc/link").returncode
    assert "kept\n" == node.command("exec", "box", "cat", "/etc/link").stdout
    run = node.start("--name", "other", "--", "sh", "-c", "echo ready; read line")
    stdout_until(run, b"ready\n")
    eventually(lambda: "other" in node.command("ps").stdout)
    assert "0\n" == node.command("exec", "other", "id", "-u").stdout
    assert 125 == node.command("run", "--name", "other", "true").returncode
    assert 0 == node.command("stop", "-t", "0.1", "other").returncode
    run.communicate(timeout=PATIENCE)
    assert "box\nother\n" == node.command("rm", "box", "other").stdout
    assert 0 == node("--name", "box", "true").returncode
    assert 0 == node.command("rm", "box").returncode
    for name in directories(node):
        os.utime(f"{node.environment['HOME']}/.local/share/sb/sandboxes/{name}", (0, 0))  # no longer just being made
    assert 0 == node("true").returncode
    assert [] == directories(node)


def test_a_home_that_cannot_be_written(sb: Sandboxes, tmp_path: Path) -> None:
    """A run that keeps nothing needs no home; one that does says what it can't write, and how to put it elsewhere."""
    tmp_path.chmod(0o500)
    for name in ("XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        sb.environment.pop(name, None)
    sb.environment["HOME"] = str(tmp_path)
    assert 0 == sb("true").returncode
    refused = sb("--keep", "true")
    assert (125, True) == (refused.returncode, "hint: set SB_DATA_HOME" in refused.stderr)
    assert 0 == sb("--keep", "true", variables={"SB_DATA_HOME": str(sb.layers.parent / "elsewhere")}).returncode
    tmp_path.chmod(0o700)


def test_two_nodes_share_the_home(node: Sandboxes) -> None:
    """A second command finds the lock of the first through the network's disk: one sandbox starts once."""
    assert 0 == node("--name", "box", "true").returncode
    # Fails where another one is in there.
    script = "set -eC; echo >/tmp/started; sleep 1; rm /tmp/started; echo line >>/etc/count"
    command = [str(SB), "start", "-a", "box", "sh", "-c", script]
    silence = subprocess.DEVNULL
    clients = [subprocess.Popen(command, env=node.environment, stdin=silence, stderr=silence) for _ in range(4)]
    each = [client.wait(PATIENCE) for client in clients]
    ends = set(each)
    assert ends in ({0}, {0, 125})
    assert "exited (0)" in node.command("ps", "-a").stdout
    assert f"{each.count(0)}\n" == node.command("start", "-a", "box", "sh", "-c", "wc -l </etc/count").stdout
    first = node.start_shell('exec "$0" start -a box sh -c "echo >/tmp/started; sleep 1000"')
    eventually(lambda: "box" in node.command("ps").stdout)
    refused = node.command("start", "box")
    assert (125, True) == (refused.returncode, "at work on it" in refused.stderr or "is running" in refused.stderr)
    assert 0 == node.command("kill", "box").returncode
    first.wait(PATIENCE)
