"""`sb apply` when something comes between: its own death, a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.reviewing import Stopped, change, diff, make_directory, snapshot, touched
from tests.sandbox.running import PATIENCE, SB, eventually, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Count
    from tests.sandbox.running import Sandboxes

# Every point at which an apply can be killed, in order, and how often it comes by there with the changes below.
POINTS = {
    "apply-staging": 1,
    "apply-file-staged": 5,
    "apply-committing": 1,
    "apply-action-done": 6,
    "apply-prepared": 1,
    "apply-committed": 1,
    "apply-clearing": 1,
    "apply-cleared": 3,
    "apply-over": 1,
}
# What comes after this is finished and not undone.
LAST_UNDONE = "apply-prepared"

CHANGES = """
echo two >file; rm other; mkdir new; echo x >new/file; echo y >shut/added; rm -r gone; echo z >gone; chmod 750 mode
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host's."""
    made = make_directory(tmp_path / "host")
    yield made
    (made / "shut").chmod(0o700)


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_step(sb: Sandboxes, tmp_path: Path, count: Count, point: str) -> None:
    """The next apply says what it did: undid all, and begins anew, or finished; either way all is there in the end."""
    finishes = list(POINTS).index(point) > list(POINTS).index(LAST_UNDONE)
    moments = range(1, POINTS[point] + 1)
    for moment in {moments[0], moments[-1], *moments[: count(0, len(moments))]}:
        host, name = make_directory(tmp_path / f"{moment}"), f"box-{moment}"
        change(sb, host, CHANGES, name)
        assert -signal.SIGKILL == sb.command("apply", name, fault=f"{point}:{moment}").returncode
        again = sb.command("apply", name)
        assert (0, "") == (again.returncode, again.stderr if again.returncode else "")
        assert f"sb: an earlier apply was cut short: it is {'finished' if finishes else 'undone'} now" in again.stderr
        assert [] == diff(sb, host, name=name)
        assert ["file", "gone", "mode", "new", "shut"] == sorted(os.listdir(host))
        assert (["file"], ["added", "inner"]) == (os.listdir(host / "new"), sorted(os.listdir(host / "shut")))
        assert (0o500, 0o750) == tuple((host / each).stat().st_mode & 0o777 for each in ("shut", "mode"))
        (host / "shut").chmod(0o700)


@pytest.mark.parametrize("point", POINTS)
def test_removed_after_a_kill(sb: Sandboxes, host: Path, point: str) -> None:
    """Who removes the sandbox instead finds the host as it was before, or as it was to be: nothing in between."""
    before = snapshot(host)
    change(sb, host, CHANGES)
    assert -signal.SIGKILL == sb.command("apply", "box", fault=f"{point}:{POINTS[point]}").returncode
    removed = sb.command("rm", "box")
    assert (0, "box\n") == (removed.returncode, removed.stdout)
    if list(POINTS).index(point) <= list(POINTS).index(LAST_UNDONE):
        assert before == snapshot(host)
    else:
        assert ["file", "gone", "mode", "new", "shut"] == sorted(os.listdir(host))
        assert ["two\n", "z\n"] == [(host / name).read_text() for name in ("file", "gone")]


FINISHED = [*POINTS][[*POINTS].index(LAST_UNDONE) + 1 :]


@pytest.mark.parametrize("point", FINISHED)
def test_what_is_finished_later_is_known(sb: Sandboxes, host: Path, point: str) -> None:
    """The sandbox can go on with what an apply has written that was killed and is finished by the next one."""
    change(sb, host, CHANGES)
    assert -signal.SIGKILL == sb.command("apply", "box", fault=f"{point}:{POINTS[point]}").returncode
    script = f"cd {host}; echo three >file; echo z >new/file; rm gone; chmod 700 mode; echo back >other"
    assert 0 == sb.command("exec", "box", "sh", "-c", script).returncode
    again = sb.command("apply", "box")
    assert (0, "") == (again.returncode, again.stderr if again.returncode else "")
    assert "sb: an earlier apply was cut short: it is finished now" in again.stderr
    assert [] == diff(sb, host)
    assert ["three\n", "z\n", "back\n"] == [(host / name).read_text() for name in ("file", "new/file", "other")]


@pytest.mark.parametrize("point", FINISHED)
def test_what_the_host_does_before_it_is_finished(sb: Sandboxes, host: Path, point: str) -> None:
    """What the host writes after an apply was killed, and before it is finished, is none of what was applied."""
    change(sb, host, CHANGES)
    assert -signal.SIGKILL == sb.command("apply", "box", fault=f"{point}:{POINTS[point]}").returncode
    for name in ("file", "new/file"):
        (host / name).write_text("mine\n")
    (host / "gone").unlink()
    script = f"cd {host}; for f in file new/file gone; do echo theirs >$f; done"
    assert 0 == sb.command("exec", "box", "sh", "-c", script).returncode
    again = sb.command("apply", "box")
    assert (125, "it is finished now") == (again.returncode, again.stderr.splitlines()[0][-18:])
    clashes = [line.split(": ")[2] for line in again.stderr.splitlines() if line.startswith("sb: conflict: ")]
    assert [f"{host}/{name}" for name in ("file", "gone", "new/file")] == sorted(clashes)
    assert ["mine\n"] * 2 == [(host / name).read_text() for name in ("file", "new/file")]


def test_what_clearing_up_changes_is_known(sb: Sandboxes, host: Path) -> None:
    """What changes once all is committed is no conflict later: the st_ctime of a file of which another name is cleared
    away, the mode of a directory, which stays open until then.
    """
    os.link(host / "file", host / "second")
    change(sb, host, "ln file new; rm second mode/inner; chmod 500 mode")
    with Stopped(sb, "apply-committed") as process:
        committed = (host / "new").stat().st_ctime_ns
        eventually(lambda: touched(host / "clock") and (host / "clock").stat().st_ctime_ns > committed)
        os.kill(process.pid, signal.SIGCONT)
        assert 0 == process.wait(PATIENCE)
    assert os.path.samefile(host / "file", host / "new")
    assert committed < (host / "new").stat().st_ctime_ns
    assert 0 == sb.command("exec", "box", "sh", "-c", f"cd {host}; rm new; echo y >new; chmod 711 mode").returncode
    again = sb.command("apply", "box")
    assert (0, "") == (again.returncode, again.stderr if again.returncode else "")
    assert ("y\n", 0o711) == ((host / "new").read_text(), (host / "mode").stat().st_mode & 0o777)


def test_what_is_undone_is_not_known_as_applied(sb: Sandboxes, host: Path) -> None:
    """An apply that comes to an end at its last step but is undone leaves no word of what it would have written."""
    change(sb, host, CHANGES)
    assert -signal.SIGKILL == sb.command("apply", "box", fault="apply-prepared").returncode
    prepared = store(sb) / "names/box/applied.next"
    assert prepared.exists()
    again = sb.command("apply", "box", fault="apply-staging")
    assert (-signal.SIGKILL, True) == (again.returncode, "it is undone now" in again.stderr)
    assert not prepared.exists()


def test_killed_while_it_undoes(sb: Sandboxes, host: Path) -> None:
    """The undoing of a killed apply can be killed too, time and again."""
    before = snapshot(host)
    change(sb, host, CHANGES)
    last = f"apply-action-done:{POINTS['apply-action-done']}"
    assert -signal.SIGKILL == sb.command("apply", "box", fault=last).returncode
    for moment in (1, 3, 5):
        assert -signal.SIGKILL == sb.command("rm", "box", fault=f"apply-action-undone:{moment}").returncode
    assert 0 == sb.command("rm", "box").returncode
    assert before == snapshot(host)


def test_killed_while_many_are_cleared(sb: Sandboxes, host: Path) -> None:
    """What several threads clear away, the next apply clears away to the last."""
    for number in range(1200):
        (host / str(number)).write_text("before\n")
    change(sb, host, "for f in [0-9]*; do echo after >$f; done")
    assert -signal.SIGKILL == sb.command("apply", "box", fault="apply-cleared:700").returncode
    left = [each for each in os.listdir(host) if each.startswith(".sb-apply-")]
    assert 0 < len(left) < 1200
    again = sb.command("apply", "box")
    assert (0, True) == (again.returncode, "it is finished now" in again.stderr)
    assert [] == [each for each in os.listdir(host) if each.startswith(".sb-apply-")]
    assert {"after\n"} == {path.read_text() for path in host.glob("[0-9]*")}


# Runs a command in which no thread can be started; it has tried.
ALONE = """
import os, resource, sys, threading
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    threading.Thread(target=print).start()
except RuntimeError:
    os.execv(sys.argv[1], sys.argv[1:])
sys.exit("a thread was started")
"""


def test_no_more_processes(sb: Sandboxes, host: Path) -> None:
    """Who may have no more processes, and so no threads, clears many files away nevertheless."""
    for number in range(600):
        (host / str(number)).write_text("before\n")
    change(sb, host, "for f in [0-9]*; do echo after >$f; done")
    command = [sys.executable, "-c", ALONE, str(SB), "apply", "-q", "box"]
    done = subprocess.run(command, env=sb.environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    assert [] == [each for each in os.listdir(host) if each.startswith(".sb-apply-")]
    assert {"after\n"} == {path.read_text() for path in host.glob("[0-9]*")}


@pytest.mark.parametrize("killed", [False, True])
def test_a_conflict_outlives_an_undoing(sb: Sandboxes, host: Path, *, killed: bool) -> None:
    """What the host has changed before an apply that was to overwrite it, and was undone, is a conflict still."""
    change(sb, host, "echo two >file; rm other; rm -r gone; chmod 700 mode; echo x >mode/inner")
    (host / "file").write_text("mine\n")
    (host / "other").write_text("mine\n")
    (host / "gone/new").write_text("mine\n")
    (host / "mode").chmod(0o711)
    before = snapshot(host)
    if killed:
        fault = "apply-action-done:5"
        assert -signal.SIGKILL == sb.command("apply", "--conflicts", "sandbox", "box", fault=fault).returncode
        assert before != snapshot(host)
    else:
        with Stopped(sb, "apply-action-done", "--conflicts", "sandbox") as process:
            process.send_signal(signal.SIGINT)
            os.kill(process.pid, signal.SIGCONT)
            process.wait(PATIENCE)
    again = sb.command("apply", "box")
    assert 125 == again.returncode
    clashes = [line.split(": ")[2] for line in again.stderr.splitlines() if line.startswith("sb: conflict: ")]
    assert [f"{host}/{name}" for name in ("file", "gone", "mode", "other")] == sorted(clashes)
    assert before == snapshot(host)
    assert 0 == sb.command("apply", "--conflicts", "sandbox", "box").returncode
    assert [] == diff(sb, host)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(sb: Sandboxes, host: Path, number: signal.Signals) -> None:
    """Ctrl-C undoes what was begun at once, and says so."""
    before = snapshot(host)
    change(sb, host, CHANGES)
    with Stopped(sb, "apply-action-done") as process:
        process.send_signal(number)
        os.kill(process.pid, signal.SIGCONT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert (125, "sb: the apply was interrupted\n\nhint: nothing was changed\n") == (process.returncode, errors)
    assert before == snapshot(host)


def test_a_full_disk(sb: Sandboxes, host: Path, program: Callable[[str], Path]) -> None:
    """An apply for which there is no space leaves all as it was, and says at which file it ended."""
    (host / "small").mkdir()
    change(sb, host, f"{CHANGES} head -c 50000 /dev/zero >small/first; head -c 300000 /dev/zero >small/large")
    before = snapshot(host)
    ids = ("--map-user", str(os.getuid()), "--map-group", str(os.getgid()), "--keep-caps")
    mount = f"mount -t tmpfs -o size=100k,mode=755 none {host}/small"
    script = f"{mount} && {SB} apply box {host}; status=$?; ls -A {host}/small; exit $status"
    command = [str(program("unshare")), "-Um", *ids, "bash", "-c", script]
    done = subprocess.run(command, env=sb.environment, capture_output=True, text=True, check=False)
    assert (125, "") == (done.returncode, done.stdout)
    why = "No space left on device\n\nhint: nothing was changed\n"
    assert f"sb: cannot apply {host}/small/large: {why}" == done.stderr
    assert before == snapshot(host)
    assert 0 == sb.command("apply", "box").returncode
    assert 300000 == (host / "small/large").stat().st_size


# A small file system over the sandbox's directory, over the same layer: what is there but for the journal stays.
SMALL_STATE = """set -e
own=$(readlink -f $1); aside=$2; sb=$3; host=$4
mkdir $aside
mount --bind $own $aside; mount -t tmpfs -o size=$5,mode=700 none $own
mkdir $own/upper; mount --bind $aside/upper $own/upper
cp $aside/state $own; : >$own/lock
"""
APPLY = """
status=0; $sb apply box $host || status=$?
ls $own | grep '^apply[.]' || exit $status
"""
# Filled to the last byte when the apply comes to the point $6 for the first time, and $7 is done to the host.
APPLY_AND_FILL = """
SB_FAULT=$6:stop $sb apply box $host & pid=$!
until grep -q '^State:.T' /proc/$pid/status; do sleep 0.01; done
ls $own | grep '^apply[.]'
cat /dev/zero >$own/filler 2>$aside/full || [ -s $aside/full ]
eval "$7"
while kill -CONT $pid 2>$aside/ended; do sleep 0.01; done
status=0; wait $pid || status=$?
echo $status $(ls $own | grep '^apply[.]')
rm $own/filler; exec $sb apply box $host
"""


def with_small_state(
    sb: Sandboxes, program: Callable[[str], Path], script: str, *words: str | Path
) -> subprocess.CompletedProcess[str]:
    """Run a script in namespaces of its own, after SMALL_STATE."""
    ids = ("--map-user", str(os.getuid()), "--map-group", str(os.getgid()), "--keep-caps")
    own = f"{sb.environment['XDG_DATA_HOME']}/sb/sandboxes/names/box"
    command = [program("unshare"), "-Um", *ids, "bash", "-c", SMALL_STATE + script, "-", own, *words]
    return subprocess.run(command, env=sb.environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kilobytes", [16, 1000])
def test_the_disk_of_the_sandbox_is_full(
    sb: Sandboxes, host: Path, tmp_path: Path, program: Callable[[str], Path], kilobytes: int
) -> None:
    """A journal for which there is no space changes nothing, and none is left."""
    # In kB: there is space for the whole with 1000, the control.
    change(sb, host, f"{CHANGES} mkdir many; for n in $(seq 300); do echo $n >shut/$n; done")
    before = snapshot(host)
    done = with_small_state(sb, program, APPLY, tmp_path / "aside", SB, host, f"{kilobytes}k")
    if kilobytes == 1000:
        assert (0, "") == (done.returncode, done.stdout), done.stderr
        assert (host / "shut/300").exists()
        return
    why = "No space left on device\n\nhint: nothing was changed\n"
    assert (125, "", f"sb: cannot apply the changes: {why}") == (done.returncode, done.stdout, done.stderr)
    assert before == snapshot(host)


def test_the_disk_of_the_sandbox_becomes_full(
    sb: Sandboxes, host: Path, tmp_path: Path, program: Callable[[str], Path]
) -> None:
    """Where all is staged, but no byte is left to note that, nothing was changed and nothing is left to be undone."""
    change(sb, host, CHANGES)
    words = (tmp_path / "aside", SB, host, "1000k", "apply-file-staged", ":")
    done = with_small_state(sb, program, APPLY_AND_FILL, *words)
    assert (0, "apply.staging\n125\n") == (done.returncode, done.stdout), done.stderr
    first, _, second = done.stderr.partition("hint: nothing was changed\n")
    assert "sb: cannot apply the changes: No space left on device\n\n" == first
    assert second.startswith("sb: applied: ")
    assert [] == diff(sb, host)


def test_an_undoing_that_cannot_be_noted(
    sb: Sandboxes, host: Path, tmp_path: Path, program: Callable[[str], Path]
) -> None:
    """Where no byte is left to note that all is undone, that is said; it is noted by the next apply."""
    change(sb, host, CHANGES)
    act = f"echo changed now >{host}/file"
    words = (tmp_path / "aside", SB, host, "1000k", "apply-committing", act)
    done = with_small_state(sb, program, APPLY_AND_FILL, *words)
    assert (125, "apply.committing\n125 apply.committing\n") == (done.returncode, done.stdout), done.stderr
    first, _, second = done.stderr.partition("hint: the next sb apply of this sandbox tries again\n")
    assert "sb: all is undone, but that can't be noted: No space left on device\n\n" == first
    assert second.startswith("sb: an earlier apply was cut short: it is undone now\n")
    assert f"sb: conflict: {host}/file: " in second
    assert ["file", "gone", "mode", "other", "shut"] == sorted(os.listdir(host))
    assert ["changed now\n", "other\n"] == [(host / name).read_text() for name in ("file", "other")]


# Where renameat2(2) knows no flags, as on NFS.
WITHOUT_FLAGS = """
import json, os, sys
from rootless_sb.kernel import processes, seccomp
from rootless_sb.security import oci_profile, system_calls
refused = {"names": ["renameat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22,
           "args": [{"index": 4, "value": 0, "op": "SCMP_CMP_NE"}]}
profile = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused]})
facts = oci_profile.Circumstances(system_calls.machine(os.uname().machine), (), os.uname().release)
processes.forbid_new_privileges()
seccomp.install(oci_profile.program("", profile, facts))
os.execv(sys.argv[1], sys.argv[1:])
"""


def apply_without_flags(sb: Sandboxes, fault: str = "") -> subprocess.CompletedProcess[str]:
    """Run `sb apply box` where names can only be renamed to free ones, one after the other."""
    command = [sys.executable, "-c", WITHOUT_FLAGS, str(SB), "apply", "box"]
    environment = {**sb.environment, "SB_FAULT": fault}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_where_names_cannot_be_exchanged(sb: Sandboxes, host: Path) -> None:
    """Then it takes steps, between which it can be killed too."""
    before = snapshot(host)
    change(sb, host, CHANGES)
    for fault in ("apply-aside:1", "apply-aside:2", f"apply-action-done:{POINTS['apply-action-done']}"):
        assert -signal.SIGKILL == apply_without_flags(sb, fault).returncode
        assert before != snapshot(host)
        undone = apply_without_flags(sb, "apply-staging")
        assert (-signal.SIGKILL, "sb: an earlier apply was cut short: it is undone now\n") == (
            undone.returncode,
            undone.stderr,
        )
        assert before == snapshot(host)
    assert 0 == apply_without_flags(sb).returncode
    assert [] == diff(sb, host)
    assert ["file", "gone", "mode", "new", "shut"] == sorted(os.listdir(host))
