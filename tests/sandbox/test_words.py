"""What sb says of itself, besides errors: at the end of a run, and as sb doctor."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from tests.sandbox.running import SB

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


def doctor(sb: Sandboxes, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `sb doctor`."""
    return subprocess.run([SB, "doctor", *arguments], env=sb.environment, capture_output=True, text=True, check=False)


def test_changes_that_are_thrown_away_are_named(sb: Sandboxes) -> None:
    """A run that changed something says how much is lost; one that didn't says nothing; -q says nothing either."""
    change = ("--", "sh", "-c", "echo x >/tmp/one; echo y >/tmp/two")
    assert "sb: 2 files (8.2 kB) thrown away; --keep keeps them\n" == sb(*change).stderr
    assert "" == sb("-q", *change).stderr
    assert "" == sb("--", "ls", "/").stderr


def test_what_a_volume_needs_is_not_thrown_away(sb: Sandboxes, tmp_path: Path) -> None:
    """The file that sb makes to mount a volume on is no change; what the command makes beside it is."""
    (tmp_path / "file").write_text("x")
    volume = ("-v", f"{tmp_path}/file:/tmp/new/file", "--", "sh", "-c")
    assert "" == sb(*volume, "cat /tmp/new/file").stderr
    assert sb(*volume, "echo y >/tmp/new/other").stderr.startswith("sb: 1 file (4.1 kB) thrown away")


def test_doctor_finds_everything_required(sb: Sandboxes) -> None:
    """Where sandboxes run, nothing required is missing, and the status is 0."""
    found = doctor(sb, "--json")
    document = json.loads(found.stdout)
    assert 1 == document["schema"]
    assert [] == [check["id"] for check in document["checks"] if check["required"] and not check["ok"]]
    assert 0 == found.returncode


def test_doctor_tells_how_to_mend(sb: Sandboxes) -> None:
    """Each ✗ has the reason on its line and what to type on the next."""
    lines = doctor(sb).stdout.splitlines()
    for number, line in enumerate(lines):
        if "✗" in line:
            assert ": " in line
            assert lines[number + 1].startswith("      ")


def test_a_host_without_network_namespaces(sb: Sandboxes) -> None:
    """Doctor and run say the same line; --allow-degraded net goes on without. A user namespace is the host here."""
    script = (
        "echo 0 >/proc/sys/user/max_net_namespaces; "
        f"'{SB}' doctor; echo $?; '{SB}' run true; echo $?; '{SB}' run --allow-degraded net -- sh -c 'exit 9'; echo $?"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", script],
        env=sb.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    line = "cannot make a network namespace: No space left on device"
    assert f"✗ {line}\n      as root: sysctl -w user.max_net_namespaces=10000" in done.stdout
    assert f"sb: {line}\n\nhint: as root: sysctl -w user.max_net_namespaces=10000" in done.stderr
    assert ["1", "125", "9"] == [text for text in done.stdout.splitlines() if text.isdigit()]


def test_an_unknown_check_cannot_be_given_up(sb: Sandboxes) -> None:
    """--allow-degraded names the checks that it takes."""
    done = sb("--allow-degraded", "everything", "true")
    assert 125 == done.returncode
    assert "hint: one of net, uts, ipc, cgroup" in done.stderr
