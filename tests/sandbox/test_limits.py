"""`--pids-limit` and `--ulimit`: what a sandbox may use of the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.running import PATIENCE, SB, eventually, python, stdout_until

if TYPE_CHECKING:
    from tests.sandbox.running import Sandboxes

# Forks children that stay, as several users, until nobody may fork any more. All users are there before that begins:
# the pipe's end is told when the last of them has closed it.
BOMB = """
import os, time
reader, writer = os.pipe()
for uid in {users}:
    if os.fork() == 0:
        if uid:
            os.setgid(uid)
            os.setuid(uid)
        os.close(writer)
        os.read(reader, 1)
        children = 0
        try:
            while children < 200:
                if os.fork() == 0:
                    time.sleep(1000)
                    os._exit(0)
                children += 1
        except BlockingIOError:
            pass
        os.write(1, b"%d\\n" % children)
        time.sleep(1000)
os.close(writer)
time.sleep(1000)
"""


@pytest.mark.usefixtures("subordinate_ids")
def test_a_fork_bomb_that_changes_its_user(sb: Sandboxes) -> None:
    """All users of the sandbox together have the one number of processes; others and the host aren't held up by it."""
    run = sb.start("--pids-limit", "50", "--name", "box", "--rm", "python3", "-c", BOMB.format(users=[0, 4000, 4001]))
    assert run.stdout is not None
    children = [int(run.stdout.readline()) for _ in range(3)]
    assert 30 < sum(children) <= 50
    assert 0 == sb.command("run", "true").returncode
    eventually(lambda: "box" in sb.command("ps").stdout)
    refused = sb.command("exec", "box", "sh", "-c", "true; (true); true")
    assert refused.returncode != 0
    assert "fork" in refused.stderr
    assert 0 == sb.command("exec", "box", "true").returncode
    run.kill()
    run.communicate(timeout=PATIENCE)


@pytest.mark.usefixtures("subordinate_ids")
def test_the_same_bomb_without_the_limit(sb: Sandboxes) -> None:
    """Each of the users has its 200 children: it is the limit that stops them."""
    run = sb.start("--", "python3", "-c", BOMB.format(users=[0, 4000]))
    assert run.stdout is not None
    assert [200, 200] == [int(run.stdout.readline()) for _ in range(2)]
    run.kill()
    run.communicate(timeout=PATIENCE)


def test_threads_count(sb: Sandboxes) -> None:
    """A thread is one of them; without the limit there are as many as one likes."""
    script = """
    import threading, time
    for number in range(200):
        try:
            threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        except RuntimeError:
            break
    print(number, flush=True)
    import os; os._exit(0)
    """
    (number,) = python(sb, script, "--pids-limit", "20")
    assert 5 < int(number) < 20
    assert ["199"] == python(sb, script)


def test_limits_of_a_process(sb: Sandboxes) -> None:
    """--ulimit reaches the command, and what `sb exec` runs; the caller's own are the same without; none is a core."""
    show = "ulimit -n; ulimit -Hn; ulimit -c"
    assert ["100", "200", "0"] == sb("--ulimit", "nofile=100:200", "--", "sh", "-c", show).stdout.split()
    run = sb.start("--ulimit", "nofile=100:200", "--name", "box", "--rm", "--", "sh", "-c", "echo ready; read line")
    stdout_until(run, b"ready\n")
    eventually(lambda: "box" in sb.command("ps").stdout)
    assert ["100", "200", "0"] == sb.command("exec", "box", "sh", "-c", show).stdout.split()
    run.communicate(timeout=PATIENCE)
    show = "ulimit -n; ulimit -Hn"
    outside = subprocess.run(["sh", "-c", show], capture_output=True, text=True, check=True).stdout
    assert outside == sb("sh", "-c", show).stdout


def test_what_cannot_be_a_limit(sb: Sandboxes) -> None:
    """More than the caller has, or no limit at all: one line, and nothing runs."""
    refused = sb("--ulimit", "nofile=99999999999", "--", "echo", "ran")
    assert (125, "") == (refused.returncode, refused.stdout)
    assert "sb: cannot set the limit nofile: " in refused.stderr
    assert "did you mean nofile?" in sb("--ulimit", "nofiel=1", "true").stderr


EATER = """
import time
eaten = []
while True:
    eaten.append(b"x" * 10_000_000)
    time.sleep(0.01)
"""


def test_memory(sb: Sandboxes) -> None:
    """What uses more than --memory is ended: 137, and the reason is said, and told to --status-fd."""
    ended = sb("--memory", "200m", "--", "python3", "-c", EATER)
    assert (137, "sb: the sandbox was ended: it used more than its limit of memory\n") == (
        ended.returncode,
        ended.stderr,
    )
    assert 0 == sb("--memory", "500m", "--", "python3", "-c", "x = b'x' * 100_000_000").returncode


def test_memory_of_many(sb: Sandboxes) -> None:
    """The processes' shares are added up: two of a hundred MB each are too many for 150; one isn't."""
    script = "x = bytearray(100_000_000); import time; time.sleep({})"
    two = f'python3 -c "{script.format(1000)}" & python3 -c "{script.format(1000)}"'
    assert 137 == sb("--memory", "150m", "--", "sh", "-c", two).returncode
    assert 0 == sb("--memory", "150m", "--", "python3", "-c", script.format(1)).returncode


def test_shared_memory_counts_once(sb: Sandboxes) -> None:
    """A hundred MB in eight processes are a hundred MB; they count when nobody has mapped them, too."""
    script = """
    import mmap, os, time
    memory = mmap.mmap(-1, 100_000_000)
    memory[:] = bytes(100_000_000)
    for _ in range(8):
        if os.fork() == 0:
            sum(memory[::4096])
            time.sleep(2)
            os._exit(0)
    for _ in range(8):
        os.wait()
    print("done")
    """
    assert ["done"] == python(sb, script, "--memory", "250m")
    assert 137 == sb("--memory", "100m", "--", "sh", "-c", "head -c 150M /dev/zero >/dev/shm/x; sleep 1000").returncode


def test_processors(sb: Sandboxes) -> None:
    """Without a control group --cpus is whole processors, which nobody inside may leave; that is said. Without it
    processes may choose, among all.
    """
    there = len(os.sched_getaffinity(0))
    if there < 2:
        pytest.skip("this machine has one processor")
    script = "import os; print(len(os.sched_getaffinity(0))); os.sched_setaffinity(0, range({})); print('changed')"
    command = ("--", sys.executable, "-I", "-c", script.format(there))
    bound = sb("--cpus", "0.5", *command)
    assert ("1\n", True) == (bound.stdout, "PermissionError" in bound.stderr)
    assert "--cpus 0.5: no control group can be had here" in bound.stderr
    free = sb("-q", *command)
    assert f"{there}\nchanged\n" == free.stdout, free.stderr
    for text in ("0", "many"):
        refused = sb("--cpus", text, "true")
        assert (125, True) == (refused.returncode, f"--cpus {text}: not a number of processors" in refused.stderr)


def test_inspect_tells_what_holds_them(sb: Sandboxes) -> None:
    """Each limit, what it is and what holds it, as it was at the last start."""
    options = ("--memory", "1g", "--cpus", "1", "--inodes", "100", "--timeout", "50s", "--ulimit", "nofile=100")
    assert 0 == sb("-q", "--name", "box", *options, "true").returncode
    (known,) = json.loads(sb.command("inspect", "box").stdout)["sandboxes"]
    expected = {
        "memory": ("1073741824", ["watch"]),
        "pids": (str(max(4096, 32 * (os.cpu_count() or 1))), ["RLIMIT_NPROC"]),
        "cpus": ("1", ["affinity"]),
        "running": (str(max(128, 32 * (os.cpu_count() or 1))), ["turns"]),
        "core": ("0:0", ["setrlimit"]),
        "nofile": ("100:100", ["setrlimit"]),
        "disk": ("5% free", ["overlay"]),
        "inodes": ("100", ["overlay"]),
        "timeout": ("50", ["supervisor"]),
    }
    assert expected == {name: (each["limit"], each["held_by"]) for name, each in known["limits"].items()}
    assert 0 == sb.command("rm", "box").returncode


def test_a_full_disk_is_told(sb: Sandboxes) -> None:
    """A run whose command fails for it says so, to --status-fd too; one that stays below says nothing."""
    for size, code, said, reason in (("3m", 1, True, "disk"), ("30m", 0, False, "exit")):
        reader, writer = os.pipe()
        script = "head -c 6M /dev/zero >/tmp/new && sync /tmp/new"
        run = sb.start("--disk", size, "--status-fd", str(writer), "--", "sh", "-c", script, descriptors=[writer])
        os.close(writer)
        _, errors = run.communicate(timeout=PATIENCE)
        assert (code, said) == (run.returncode, b"its limit of disk was reached" in errors), errors
        with open(reader, encoding="ascii") as told:
            assert reason == json.loads(told.read().splitlines()[-1])["reason"]


SMALL = 'mount -t tmpfs -o size=40m,nr_inodes=2000 none "$SLURM_TMPDIR" && exec "$0" run -q "$@"'


def on_a_small_disk(sb: Sandboxes, options: list[str], script: str) -> list[str]:
    """What a script prints, in a sandbox whose layer is on a small file system, and at last its first error."""
    errors = "grep -o -m 1 -E 'No space|not supported' /tmp/errors"
    command = f"mkdir /tmp/new; cd /tmp/new; ({script}) 2>/tmp/errors; {errors}"
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", SMALL, str(SB), *options, "--", "sh", "-c", command],
        env={**sb.environment, "SLURM_TMPDIR": str(sb.layers.parent)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.stdout.splitlines() or [done.stderr]


@pytest.mark.parametrize(
    ("options", "script", "least", "most"),
    [
        ([], "head -c 100M /dev/zero >x; sync x; stat -c %b x", 20 << 11, 38 << 11),
        ([], "mkdir $(seq 2500); ls | wc -l", 1700, 1899),
        (["--inodes", "3000"], "mkdir $(seq 2500); ls | wc -l", 1901, 2000),
    ],
)
def test_a_part_of_the_disk_stays_free(sb: Sandboxes, options: list[str], script: str, least: int, most: int) -> None:
    """Of the file system with the layer 5 % of bytes and inodes stay free, unless it is said how much may be used."""
    number, said = on_a_small_disk(sb, options, script)
    assert least <= int(number) <= most
    assert "No space" == said


def test_what_is_asked_for_may_be_written(sb: Sandboxes) -> None:
    """With --disk what else would stay free may be used."""
    assert [str(39 << 11)] == on_a_small_disk(sb, ["--disk", "100m"], "head -c 39M /dev/zero >x; sync x; stat -c %b x")


def test_no_more_is_allocated(sb: Sandboxes) -> None:
    """Space that stays free can't be allocated at once either; what is less can. (Only the compiled helper does it.)"""
    if os.environ.get("FUSE_OVERLAY_SHORTCUT") == "off":
        assert ["not supported"] == on_a_small_disk(sb, [], "fallocate -l 20M x")
    else:
        assert ["20971520"] == on_a_small_disk(sb, [], "fallocate -l 20M x; stat -c %s x")
        assert ["No space"] == on_a_small_disk(sb, [], "fallocate -l 39M x")
