"""`--user`: the command runs as another user of the sandbox."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.running import PATIENCE, eventually, stdout_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox.running import Sandboxes

WHO = "id -u; id -g; id -G; echo $HOME $USER"


@pytest.mark.usefixtures("subordinate_ids")
def test_a_name_of_the_sandboxs_own(sb: Sandboxes) -> None:
    """Ids, groups, HOME and USER are those of the sandbox's passwd and group, as changed; -e has the last word."""
    add = "echo 'me:x:4000:4001::/tmp:/bin/sh' >>/etc/passwd; echo 'us:x:4002:me' >>/etc/group"
    assert 0 == sb("--name", "box", "--", "sh", "-c", add).returncode
    assert ["4000", "4001", "4001 4002", "/tmp me"] == sb.command(
        "exec", "-u", "me", "box", "sh", "-c", WHO
    ).stdout.splitlines()
    assert ["4000", "4002", "4002", "/x me"] == sb.command(
        "exec", "-u", "me:us", "-e", "HOME=/x", "box", "sh", "-c", WHO
    ).stdout.splitlines()
    assert ["4007", "4009", "4009", "/"] == sb("-u", "4007:4009", "--", "sh", "-c", WHO).stdout.split()


@pytest.mark.usefixtures("subordinate_ids")
def test_the_user_has_no_power_of_roots(sb: Sandboxes) -> None:
    """Capabilities are gone, and what root wrote can't be changed; root, beside it, can."""
    script = "grep CapEff /proc/self/status; echo x 2>/dev/null >/etc/hosts.new || echo refused"
    assert ["CapEff:", "0" * 16, "refused"] == sb("-u", "4000:4000", "--", "sh", "-c", script).stdout.split()
    roots = sb("sh", "-c", script).stdout
    assert "refused" not in roots
    assert roots.startswith("CapEff:")
    assert "0" * 16 not in roots


@pytest.mark.usefixtures("subordinate_ids")
def test_what_it_makes_is_its_own(sb: Sandboxes) -> None:
    """A new file belongs to the user, as root sees it too."""
    assert 0 == sb("--name", "box", "-u", "4000:4001", "-w", "/tmp", "--", "touch", "/tmp/mine").returncode
    assert "4000 4001\n" == sb.command("exec", "-u", "0", "box", "stat", "-c", "%u %g", "/tmp/mine").stdout


@pytest.mark.usefixtures("subordinate_ids")
def test_a_kept_sandbox_goes_on_with_its_user(sb: Sandboxes) -> None:
    """`start` and `exec` run as the user that `run` was given, unless told otherwise."""
    run = sb.start("--name", "box", "-u", "4000", "--", "sh", "-c", "id -u; echo ready; read line")
    assert b"4000\nready\n" == stdout_until(run, b"ready\n")
    eventually(lambda: "box" in sb.command("ps").stdout)
    assert "4000\n" == sb.command("exec", "box", "id", "-u").stdout
    assert "0\n" == sb.command("exec", "-u", "root", "box", "id", "-u").stdout
    run.communicate(timeout=PATIENCE)
    assert "4000\n" == sb.command("start", "-a", "box", "id", "-u").stdout
    (found,) = json.loads(sb.command("inspect", "box").stdout)["sandboxes"]
    assert "4000" == found["options"]["user"]


@pytest.mark.usefixtures("subordinate_ids")
def test_its_terminal_is_its_own(sb: Sandboxes) -> None:
    """The user may open the terminal that it runs on by its name."""
    done = sb("-t", "-u", "4000", "--", "sh", "-c", "echo written >$(tty); stat -c %u $(tty)")
    assert ["written", "4000"] == done.stdout.split()


def test_an_id_that_is_not_there(sb: Sandboxes) -> None:
    """One line, and the way to more ids; unknown names are said; nothing runs."""
    refused = sb("--userns", "single", "-u", "4000", "--", "echo", "ran")
    assert (125, "") == (refused.returncode, refused.stdout)
    assert refused.stderr.startswith("sb: cannot become user 4000: Invalid argument\n\nhint: without subordinate ids")
    unknown = sb("-u", "no-such-user", "true")
    assert (125, True) == (unknown.returncode, "no such user in the sandbox's /etc/passwd" in unknown.stderr)


def test_the_only_user_can_be_named(sb: Sandboxes) -> None:
    """Without subordinate ids root is who one is, by name and by number."""
    assert "0\n" == sb("--userns", "single", "-u", "root", "id", "-u").stdout
    assert "0\n" == sb("--userns", "single", "-u", "0:0", "id", "-u").stdout


def test_a_passwd_that_never_ends(sb: Sandboxes, tmp_path: Path, program: Callable[[str], Path]) -> None:
    """An image whose passwd is a FIFO holds nobody up."""
    for name in ("bin", "etc", "proc", "dev", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin/busybox").write_bytes(program("busybox").read_bytes())
    (tmp_path / "bin/busybox").chmod(0o755)
    os.mkfifo(tmp_path / "etc/passwd")
    assert 0 == sb("--rootfs", str(tmp_path), "-u", "0", "/bin/busybox", "true").returncode
