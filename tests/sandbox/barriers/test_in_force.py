"""What sb says of its barriers, and what it does where the host lacks one."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from rootless_sb.kernel import processes, seccomp
from rootless_sb.security import bpf
from rootless_sb.security.system_calls import machine
from tests.sandbox.barriers.attackers import outside, program, require_landlock
from tests.sandbox.running import PATIENCE, SB, eventually, stdout_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox.running import Sandboxes

ALL = {"user", "mount", "net", "uts", "ipc", "cgroup", "pid", "nested", "no_new_privs", "seccomp"}
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38  # <linux/prctl.h>


def test_inspect_and_status_tell(sb: Sandboxes) -> None:
    """`sb inspect` and the status descriptor name what is in force, for what was given up too; exec tells the same."""
    reader, writer = os.pipe()
    options = ("--allow-degraded=uts", "--allow-degraded=landlock", "--status-fd", str(writer))
    box = sb.start(*options, "--name", "box", "--rm", "--", "sh", "-c", "echo ready; read line", descriptors=(writer,))
    os.close(writer)
    stdout_until(box, b"ready\n")
    eventually(lambda: "running" in sb.command("ps").stdout)
    with os.fdopen(reader) as status:
        started = json.loads(status.readline())
        assert ALL - {"uts"} == set(started["barriers"])
        known = json.loads(sb.command("inspect", "box").stdout)["sandboxes"][0]
        assert started["barriers"] == known["barriers"]
        entered = ["sh", "-c", 'exec "$0" exec --status-fd 7 box true 7>&1', str(SB)]
        told = subprocess.run(entered, env=sb.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
        assert started["barriers"] == json.loads(told.stdout.splitlines()[0])["barriers"]
        box.communicate(b"\n", timeout=PATIENCE)


def test_dry_run_tells(sb: Sandboxes) -> None:
    """`--dry-run --json` has them all, Landlock among them where there is one."""
    require_landlock(2)
    plan = json.loads(sb("--dry-run", "--json", "true").stdout)["plan"]
    assert ALL | {"landlock"} == set(plan["barriers"]["in_force"])
    assert plan["barriers"]["seccomp"]["instructions"] > 100


@pytest.mark.parametrize("name", ["user", "mnt", "pid", "net", "uts", "ipc"])
def test_a_namespace_that_cannot_be_made(sb: Sandboxes, name: str) -> None:
    """sb refuses with the name of the check; where that can be given up, it goes on without."""
    check = {"mnt": "mount"}.get(name, name)

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        forbid = f'echo 0 >/proc/sys/user/max_{name}_namespaces; exec "$@"'
        command = ["unshare", "-Ur", "sh", "-c", forbid, "sh", str(SB), "run", "-q", *options, "--", "echo", "ran"]
        return subprocess.run(
            command, env=sb.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    refused = run()
    assert (125, "") == (refused.returncode, refused.stdout)
    assert refused.stderr.startswith("sb: cannot make a ")
    given_up = run(f"--allow-degraded={check}")
    if check in ("user", "mount", "pid"):
        assert (125, "") == (given_up.returncode, given_up.stdout)
    else:
        assert f"--allow-degraded {check}" in refused.stderr
        assert "ran\n" == given_up.stdout, given_up.stderr


def test_without_the_inner_namespace(sb: Sandboxes) -> None:
    """Where only one user namespace can be made: refused; with --allow-degraded nested mounts and pid 1 are guarded
    by capabilities alone."""
    script = """
        print(outcome(open, "/proc/1/environ"), outcome(os.mkdir, "/tmp/sb-made"))
        print(libc.umount2(b"/proc", 2), libc.ptrace(16, 1, None, None))
        """
    forbid = 'echo 1 >/proc/sys/user/max_user_namespaces; exec "$@"'

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = ["unshare", "-Ur", "sh", "-c", forbid, "sh", str(SB), "run", "-q", *options, "--", *program(script)]
        return subprocess.run(
            command, env=sb.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    refused = run()
    assert 125 == refused.returncode
    assert "sb: cannot nest user namespaces" in refused.stderr
    assert "--allow-degraded nested" in refused.stderr
    given_up = run("--allow-degraded=nested")
    assert ["EACCES done", "-1 -1"] == given_up.stdout.splitlines(), given_up.stderr


def lacking(call: str, rules: tuple[bpf.Rule, ...] = ()) -> Callable[[], None]:
    """What a process does to look like one on a kernel without `call`, or where calls that fit the rules fail."""
    here = machine(os.uname().machine)
    assert here is not None
    answer = bpf.Decision(bpf.ALLOW, rules) if rules else bpf.Decision(bpf.ERRNO | errno.ENOSYS)
    allowed = bpf.Decision(bpf.ALLOW)
    policy = bpf.Policy(here.architecture, {here.numbers[call]: answer}, allowed, 0x3FFFFFFE, allowed)

    def forget() -> None:
        processes.forbid_new_privileges()
        seccomp.install(bpf.assemble(policy))

    return forget


def failing_prctl(option: int) -> Callable[[], None]:
    """As `lacking`, for one option of prctl(2), on a kernel that has no Landlock either."""
    unknown = bpf.Rule(bpf.ERRNO | errno.EINVAL, (bpf.Comparison(0, bpf.EQUAL, option),))

    def forget() -> None:
        lacking("landlock_create_ruleset")()
        lacking("prctl", (unknown,))()

    return forget


@pytest.mark.parametrize(
    ("check", "option", "alone"), [("seccomp", _PR_SET_SECCOMP, True), ("no_new_privs", _PR_SET_NO_NEW_PRIVS, False)]
)
def test_a_kernel_without(sb: Sandboxes, check: str, option: int, alone: bool) -> None:
    """A kernel without seccomp filters or no_new_privs: refused with the name, and without the name it runs."""
    refused = sb.start("-q", "--", "echo", "ran", first=failing_prctl(option))
    output, errors = refused.communicate(timeout=PATIENCE)
    assert (125, b"") == (refused.returncode, output)
    assert f"--allow-degraded {check}".encode() in errors
    more = () if alone else ("--allow-degraded=seccomp",)
    given_up = sb.start("-q", f"--allow-degraded={check}", *more, "--", "echo", "ran", first=failing_prctl(option))
    assert b"ran\n" == given_up.communicate(timeout=PATIENCE)[0]


def test_a_kernel_without_landlock(sb: Sandboxes) -> None:
    """One warning, on stderr, and the command runs; none when it is given up; an error on the host's network."""

    def run(*options: str) -> tuple[int, bytes, bytes]:
        unset = {"SB_ALLOW_DEGRADED": ""}
        started = sb.start(
            *options, "--", "echo", "ran", first=lacking("landlock_create_ruleset"), variables=unset
        )
        output, errors = started.communicate(timeout=PATIENCE)
        return started.returncode, output, errors

    status, output, errors = run()
    assert (0, b"ran\n", 1) == (status, output, errors.count(b"Landlock"))
    assert b"Landlock" not in run("--allow-degraded=landlock")[2]
    status, output, errors = run("--allow-degraded=net")
    assert (125, b"") == (status, output)
    assert b"--allow-degraded landlock" in errors


def test_a_profile_of_ones_own(sb: Sandboxes, tmp_path: Path) -> None:
    """--seccomp FILE is in force for the command and for `sb exec`; one that is missing or no profile is an error."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXDEV}],
    }
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    script = "print(outcome(os.mkdir, '/tmp/sb-made'))"
    box = sb.start("--name", "box", "--rm", "--seccomp", "profile.json", "--", "sh", "-c", "echo ready; read line",
                   directory=tmp_path)  # fmt: skip
    stdout_until(box, b"ready\n")
    eventually(lambda: "running" in sb.command("ps").stdout)
    assert "EXDEV\n" == sb.command("exec", "box", *program(script)).stdout
    box.communicate(b"\n", timeout=PATIENCE)
    done = sb("--security-opt", "seccomp=profile.json", "--", *program(script), directory=tmp_path)
    assert "EXDEV\n" == done.stdout, done.stderr
    assert ["done"] == outside(script.replace("'/tmp/sb-made'", repr(str(tmp_path / "made"))))
    (tmp_path / "profile.json").write_text("{")
    for name in ("profile.json", "missing.json"):
        bad = sb("--seccomp", name, "true", directory=tmp_path)
        assert (125, True) == (bad.returncode, bad.stderr.startswith(f"sb: --seccomp {tmp_path}/{name}: "))


def test_doctor_knows_them(sb: Sandboxes) -> None:
    """`sb doctor --json` has a check of the name of each barrier, and says which can be given up."""
    checks = {each["id"]: each for each in json.loads(sb.command("doctor", "--json").stdout)["checks"]}
    assert ALL | {"landlock"} <= set(checks)
    assert [] == [name for name in ALL if not (checks[name]["required"] and checks[name]["ok"])]
    degradable = {name for name in (*ALL, "landlock") if checks[name]["degradable"]}
    assert ALL - {"user", "mount", "pid"} | {"landlock"} == degradable
