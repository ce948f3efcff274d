"""/etc/shadow and /etc/gshadow on the host's view: made anew, so that accounts can be made; the host's stay secret."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rootless_sb import state
from rootless_sb.review import opening
from rootless_sb.review.assessment import assess
from rootless_sb.review.owners import Identity
from tests.sandbox.running import store

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.running import Sandboxes

POSTINST = """set -e
adduser --system --group --quiet --home /nonexistent --no-create-home sbtiny
passwd -l sbtiny >/dev/null"""
TABLES = ("/etc/shadow", "/etc/gshadow")


@pytest.fixture(autouse=True)
def _unreadable() -> None:
    """The host has tables of passwords, which this user can't read."""
    if not all(os.path.exists(table) and not os.access(table, os.R_OK) for table in TABLES):
        pytest.skip("no /etc/shadow and /etc/gshadow that are there and closed")


@pytest.mark.parametrize("userns", ["root", "single", "keep-id"])
def test_every_account_is_there_and_locked(sb: Sandboxes, userns: str) -> None:
    """The tables have the names of passwd and group, and what could be a password's hash nowhere."""
    script = "cut -d: -f2 /etc/shadow /etc/gshadow | sort -u; cut -d: -f1 /etc/shadow | sort >/tmp/a"
    script += "; cut -d: -f1 /etc/passwd | sort | cmp - /tmp/a && stat -c '%a %u' /etc/shadow /etc/gshadow /etc"
    user = ("-u", "0") if userns == "keep-id" else ()
    shown = sb("--userns", userns, *user, "--", "sh", "-c", script).stdout
    assert ["*", "640 0", "640 0", "755 0"] == shown.splitlines()


def test_an_account_is_made(sb: Sandboxes, program: Callable[[str], Path]) -> None:
    """useradd, adduser for a system user, chpasswd and passwd work, and the changes are theirs alone."""
    for name in ("useradd", "adduser", "chpasswd", "passwd"):
        program(name)
    script = """
        PATH=$PATH:/usr/sbin:/sbin
        useradd -m sbnew && echo sbnew:hush | chpasswd && passwd -S sbnew | cut -d' ' -f1,2 &&
        passwd -l sbnew >&2 && passwd -S sbnew | cut -d' ' -f1,2 &&
        adduser --system --group --quiet --home /nonexistent --no-create-home sbsystem && id -un sbsystem &&
        grep -c ^sbsystem: /etc/shadow /etc/gshadow && userdel -r sbsystem && usermod -aG daemon sbnew && id -Gn sbnew
        """
    done = sb("--name", "box", "--", "sh", "-c", script)
    expected = ["sbnew P", "sbnew L", "sbsystem", "/etc/shadow:1", "/etc/gshadow:1", "sbnew daemon"]
    assert (0, expected) == (done.returncode, done.stdout.splitlines()), done.stderr
    changed = sb.command("diff", "box").stdout.splitlines()
    assert {"C /etc/passwd", "C /etc/shadow", "C /etc/gshadow"} <= set(changed)
    patch = sb.command("diff", "--patch", "box").stdout.partition("+++ b/etc/shadow\n")[2].partition("\n--- ")[0]
    assert ["+sbnew:!$y$"] == [line[: len("+sbnew:!$y$")] for line in patch.splitlines() if line[:1] in ("+", "-")]
    assert "sbnew" not in Path("/etc/passwd").read_text()
    assert "sbnew P" not in sb("passwd", "-S", "sbnew").stdout


def test_what_nobody_changed_is_no_change(sb: Sandboxes) -> None:
    """The tables are in no list of changes, nor is the directory that they lie in."""
    assert 0 == sb("--name", "box", "--", "sh", "-c", "cat /etc/shadow /etc/gshadow >/dev/null; ls /etc >&2").returncode
    assert "" == sb.command("diff", "box").stdout


def test_they_are_not_applied(sb: Sandboxes) -> None:
    """What was made for the sandbox doesn't take the place of the host's, which it hasn't seen; not if root applies."""
    assert 0 == sb("--name", "box", "--", "sh", "-c", "echo x:*::::::: >>/etc/shadow; rm /etc/gshadow").returncode
    refused = sb.command("apply", "--allow-risky", "box")
    assert (125, True) == (refused.returncode, "/etc/shadow: its directory is root's" in refused.stderr)
    directory = next(path for path in store(sb).iterdir() if (path / "state").exists())
    view = opening.view(state.decode((directory / "state").read_bytes()), str(directory))
    verdicts = assess(view, view.changes(), Identity(0, 0, frozenset({0}), 0, 0), {}, 0)
    told = "the sandbox has seen one that sb made for it: you can't read the host's"
    assert {b"/etc/shadow": told, b"/etc/gshadow": told} == {each.change.path: each.hidden for each in verdicts}


def test_they_are_there_at_the_next_start(sb: Sandboxes) -> None:
    """A sandbox that is kept goes on with the same, and with what it made of them."""
    assert 0 == sb("--name", "box", "--", "sh", "-c", "echo x:*::::::: >>/etc/shadow").returncode
    again = sb.command("start", "-a", "box", "sh", "-c", "tail -1 /etc/shadow; grep -c ^root: /etc/gshadow")
    assert ["x:*:::::::", "1"] == again.stdout.splitlines()


@pytest.mark.parametrize("userns", ["root", "single"])
def test_a_package_that_makes_a_system_user(
    sb: Sandboxes, tmp_path: Path, program: Callable[[str], Path], userns: str
) -> None:
    """dpkg installs it, its script makes and locks an account, and purging takes it away."""
    for name in ("dpkg-deb", "adduser", "passwd"):
        program(name)
    (tmp_path / "p/DEBIAN").mkdir(parents=True)
    (tmp_path / "p/DEBIAN/control").write_text(
        "Package: sb-tiny\nVersion: 1\nArchitecture: all\nMaintainer: n <n@example.org>\nDescription: has a user\n"
    )
    scripts = {"postinst": POSTINST, "postrm": "set -e; if [ $1 = purge ]; then deluser --quiet sbtiny; fi"}
    for name, text in scripts.items():
        (tmp_path / "p/DEBIAN" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "p/DEBIAN" / name).chmod(0o755)
    subprocess.run(["dpkg-deb", "--build", tmp_path / "p", tmp_path / "p.deb"], check=True, capture_output=True)
    script = f"""
        PATH=$PATH:/usr/sbin:/sbin
        dpkg -i {tmp_path}/p.deb >&2 && passwd -S sbtiny | cut -d' ' -f1,2 &&
        dpkg --purge sb-tiny >&2 && ! id sbtiny 2>/dev/null && ! grep sbtiny /etc/shadow
        """
    done = sb("--userns", userns, "--", "sh", "-c", script)
    assert (0, ["sbtiny L"]) == (done.returncode, done.stdout.splitlines()), done.stderr
