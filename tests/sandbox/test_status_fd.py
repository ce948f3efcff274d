"""`--status-fd`: the start and the end of a command as lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING

from tests.sandbox.running import PATIENCE, SB, eventually, listed, read_until, stdout_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


def events(sb: Sandboxes, place: Path, *words: str) -> list[dict[str, object]]:
    """What a command of sb's tells descriptor 7."""
    told = place / "told"
    subprocess.run(
        ["sh", "-c", 'exec "$@" 7>"$0"', str(told), str(SB), words[0], "--status-fd", "7", *words[1:]],
        env=sb.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return [json.loads(line) for line in told.read_text().splitlines()]


def test_a_run(sb: Sandboxes, tmp_path: Path) -> None:
    """First its id and pid 1's pid on the host, then its exit code."""
    started, exited = events(sb, tmp_path, "run", "--", "sh", "-c", "exit 3")
    assert ("started", 12) == (started["event"], len(str(started["id"])))
    assert {"event": "exited", "code": 3, "signal": None, "reason": "exit"} == exited


def test_where_the_time_goes(sb: Sandboxes, tmp_path: Path) -> None:
    """The start's phases, each with its milliseconds, follow one another; SB_TRACE=1 says all until the end."""
    begin = time.monotonic()
    started, _ = events(sb, tmp_path, "run", "--", "true")
    whole = (time.monotonic() - begin) * 1000
    told = started["phases"]
    assert isinstance(told, dict)
    order = ["python", "options", "host", "plan", "directory", "namespaces", "mount", "stage", "files", "root"]
    order.append("command")
    assert order == list(told)
    assert all(length >= 0 for length in told.values())
    assert sum(told.values()) < whole
    lines = sb("--", "true", variables={"SB_TRACE": "1"}).stderr.splitlines()
    assert [*order, "run", "gone", "removed"] == [line.split()[-1] for line in lines]


def test_the_pid_is_the_sandboxs(sb: Sandboxes) -> None:
    """While it runs, the pid that is told has the sandbox's PID namespace."""
    reader, writer = os.pipe()
    run = sb.start(
        "--status-fd", str(writer), "--", "sh", "-c", "readlink /proc/self/ns/pid; read x", descriptors=[writer]
    )
    os.close(writer)
    inside = stdout_until(run, b"\n").decode().strip()
    told = json.loads(read_until(reader, b"\n"))
    assert inside == os.readlink(f"/proc/{told['pid']}/ns/pid_for_children")
    run.communicate(timeout=PATIENCE)
    assert b'"exited"' in read_until(reader, b"\n")
    assert b"" == os.read(reader, 1)  # nobody holds it any more
    os.close(reader)


def test_how_it_ends(sb: Sandboxes, tmp_path: Path) -> None:
    """By a signal, by its time limit, or by a failure of sb's, which then is all that is told."""
    ends: list[tuple[list[str], dict[str, object]]] = [
        (["--", "sh", "-c", "kill -9 $$"], {"code": 137, "signal": 9, "reason": "signal"}),
        (["--timeout", "0.3s", "--", "sleep", "1000"], {"code": 124, "signal": None, "reason": "timeout"}),
        (["--", "no-such-program"], {"code": 127, "signal": None, "reason": "sb"}),
        (["--hostname", "not a name", "--", "true"], {"code": 125, "signal": None, "reason": "sb"}),
    ]
    for words, end in ends:
        told = events(sb, tmp_path, "run", *words)
        assert {"event": "exited", **end} == told[-1]
        assert (2 if end["reason"] != "sb" else 1) == len(told)


def test_in_the_background(sb: Sandboxes, tmp_path: Path) -> None:
    """The descriptor goes along with a detached sandbox, and hears of its end."""
    told = events(sb, tmp_path, "run", "-d", "--name", "box", "--", "sh", "-c", "exit 4")
    eventually(lambda: '"exited"' in (tmp_path / "told").read_text())
    lines = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert ["started", "exited"] == [each["event"] for each in lines]
    assert 4 == lines[1]["code"]
    assert told in ([lines[0]], lines)
    eventually(lambda: 0 == sb.command("rm", "box").returncode)


def test_an_exec(sb: Sandboxes, tmp_path: Path) -> None:
    """In a running sandbox and in one that has ended; the pid is the command's own on the host."""
    run = sb.start("--name", "box", "--", "sh", "-c", "echo ready; read line")
    stdout_until(run, b"ready\n")
    eventually(lambda: "box" in sb.command("ps").stdout)
    started, exited = events(sb, tmp_path, "exec", "box", "sh", "-c", "sleep 1; kill -15 $$")
    (found,) = listed(sb)
    assert found["id"] == started["id"]
    assert started["pid"] not in (None, found["pid"])
    assert {"event": "exited", "code": 143, "signal": 15, "reason": "signal"} == exited
    run.communicate(timeout=PATIENCE)
    assert 5 == events(sb, tmp_path, "exec", "box", "sh", "-c", "exit 5")[-1]["code"]


def test_what_is_no_descriptor_of_the_callers(sb: Sandboxes) -> None:
    """A closed one, and one that only sb itself has opened, are refused; nothing runs."""
    for number in ("3", "4", "5", "900", "-1", "99999999999"):
        refused = sb(f"--status-fd={number}", "--", "echo", "ran")
        assert (125, "") == (refused.returncode, refused.stdout)
        assert f"sb: --status-fd {number}: not open for writing" in refused.stderr
