"""Seccomp profiles in the OCI JSON format: what docker's mean, and garbage of every kind."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as some

from rootless_sb.errors import SbError
from rootless_sb.security import bpf, capabilities, oci_profile
from rootless_sb.security.oci_profile import Circumstances
from rootless_sb.security.system_calls import machine
from tests.unit import libseccomp
from tests.unit.bpf_evaluator import Call, run

HERE = machine(os.uname().machine)
assert HERE is not None
FACTS = Circumstances(HERE, capabilities.DEFAULT, "6.1.0-9-amd64")
EPERM = bpf.ERRNO | errno.EPERM
PODMANS = Path("/usr/share/containers/seccomp.json")

VALUE = some.sampled_from((0, 1, 2, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, 2**64 - 1)) | some.integers(0, 2**64 - 1)
OPERATOR = some.sampled_from([f"SCMP_CMP_{name}" for name in libseccomp.OPERATORS])
ARGUMENT = some.fixed_dictionaries(
    {"index": some.integers(0, 5), "value": VALUE, "valueTwo": VALUE, "op": OPERATOR}
)
ARGUMENTS = some.lists(ARGUMENT, max_size=3, unique_by=lambda each: each["index"])
ACTIONS = {"SCMP_ACT_ALLOW": bpf.ALLOW, "SCMP_ACT_KILL_PROCESS": bpf.KILL, "SCMP_ACT_TRAP": bpf.TRAP}
NAMES = ("read", "write", "openat", "clone", "ioctl", "socket", "mount", "unshare")
ENTRY = some.fixed_dictionaries(
    {"names": some.lists(some.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
     "action": some.sampled_from(tuple(ACTIONS)), "args": ARGUMENTS}
)  # fmt: skip


def decide(profile: dict[str, object], name: str, *arguments: int) -> int:
    """What a profile says of a call by name."""
    assert HERE is not None
    program = oci_profile.program("profile.json", json.dumps(profile), FACTS)
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    return run(program, Call(HERE.numbers[name], HERE.architecture, padded))


def test_a_small_profile() -> None:
    """Names, arguments, errors, and the default; unknown names of calls are passed over."""
    profile: dict[str, object] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]},
            {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
        ],
    }  # fmt: skip
    assert bpf.ALLOW == decide(profile, "read") == decide(profile, "socket", 2) == decide(profile, "clone", 17)
    assert EPERM == decide(profile, "openat") == decide(profile, "socket", 40) == decide(profile, "clone", 0x10000000)
    assert bpf.ERRNO | errno.ENOSYS == decide(profile, "mount")


def test_two_conditions_on_one_argument() -> None:
    """Are alternatives, as runc has it."""
    arguments = [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"} for value in (1, 2)]
    entry = {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": arguments}
    profile: dict[str, object] = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [entry]}
    assert [bpf.ALLOW, bpf.ALLOW, EPERM] == [decide(profile, "socket", value) for value in (1, 2, 3)]


@pytest.mark.parametrize(
    ("part", "counts"),
    [
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, False),
        ({"includes": {"caps": ["CAP_SYS_CHROOT"]}}, True),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, True),
        ({"excludes": {"caps": ["CAP_CHOWN"]}}, False),
        ({"includes": {"arches": ["s390x"]}}, False),
        ({"includes": {"arches": ["amd64", "arm64"]}}, True),
        ({"excludes": {"arches": ["amd64", "arm64"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "6.2"}}, False),
    ],
)
def test_entries_that_depend(part: dict[str, object], counts: bool) -> None:
    """docker's `includes` and `excludes`: capabilities, architectures, the kernel's version."""
    entry = {"names": ["mount"], "action": "SCMP_ACT_ALLOW", **part}
    profile: dict[str, object] = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [entry]}
    assert (bpf.ALLOW if counts else EPERM) == decide(profile, "mount")


def test_newer_calls() -> None:
    """Above the table: ENOSYS where the default is an error, else the default."""
    assert HERE is not None
    for action, expected in (("SCMP_ACT_ERRNO", bpf.ERRNO | errno.ENOSYS), ("SCMP_ACT_ALLOW", bpf.ALLOW)):
        program = oci_profile.program("x", json.dumps({"defaultAction": action}), FACTS)
        assert expected == run(program, Call(5000, HERE.architecture))


def test_podmans_own_profile() -> None:
    """The profile that podman ships makes a program: chroot is allowed, and what takes another capability is not."""
    if not PODMANS.exists():
        pytest.skip(f"{PODMANS} isn't there: podman isn't installed")
    profile = json.loads(PODMANS.read_text())
    assert bpf.ALLOW == decide(profile, "chroot") == decide(profile, "read") == decide(profile, "clone", 17)
    assert EPERM == decide(profile, "open_by_handle_at") == decide(profile, "bpf")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[" * 100_000, '{"defaultAction": 3}', '{"defaultAction": "SCMP_ACT_NOTIFY"}',
     '{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": "EPERM"}',
     '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}', '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [1]}',
     '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": "read", "action": "SCMP_ACT_KILL"}]}',
     '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL", "args": [{}]}]}'],
)  # fmt: skip
def test_what_is_no_profile(text: str) -> None:
    """One error, which names the file and what is wrong with it."""
    with pytest.raises(SbError, match=r"--seccomp profile\.json: "):
        oci_profile.program("profile.json", text, FACTS)


JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=5)
    | some.sampled_from((*ACTIONS, *NAMES)),
    lambda inner: some.lists(inner, max_size=3)
    | some.dictionaries(
        some.sampled_from(("defaultAction", "syscalls", "names", "action", "args", "op", "index", "value", "includes",
                           "excludes", "caps", "arches", "minKernel", "errnoRet", "defaultErrnoRet")),
        inner,
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@given(JSON, ENTRY)
def test_any_json(found: object, entry: dict[str, object]) -> None:
    """Whatever JSON stands in a profile, whole or in part: a program or an error in sb's words."""
    broken = {**entry, **found} if isinstance(found, dict) else found
    for profile in (found, {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [broken]}):
        try:
            program = oci_profile.program("x", json.dumps(profile), FACTS)
        except SbError:
            continue
        run(program, Call(0, FACTS.machine.architecture))


@given(some.lists(ENTRY, min_size=1, max_size=5, unique_by=lambda each: each["action"]), some.data())
@settings(max_examples=60)
def test_as_libseccomp_does(entries: list[dict[str, Any]], data: some.DataObject) -> None:
    """libseccomp makes a program of the same rules that says the same: by our evaluator, and by its own simulator.

    Each call is in one entry only, for which of several rules counts libseccomp leaves open.
    """
    library = libseccomp.load()
    if library is None:
        pytest.skip("libseccomp isn't installed")
    numbers = FACTS.machine.numbers
    seen: set[str] = set()
    rules = []
    for entry in entries:
        entry["names"] = [name for name in entry["names"] if name not in seen]
        seen |= set(entry["names"])
        rules += [(ACTIONS[str(entry["action"])], numbers[name], entry["args"]) for name in entry["names"]]
    try:
        theirs = libseccomp.compile_rules(library, EPERM, rules)
    except libseccomp.RefusedError:
        assume(False)
    ours = oci_profile.program("x", json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": entries}), FACTS)
    for name in NAMES:
        values = [each["value"] for entry in entries for each in entry["args"]]
        word = some.sampled_from(values) | VALUE if values else VALUE
        call = Call(numbers[name], FACTS.machine.architecture, data.draw(some.tuples(*[word] * 6)))
        assert run(theirs, call) == run(ours, call), (name, call)
        if simulator := shutil.which("scmp_bpf_sim"):
            assert simulated(simulator, ours, call) == run(ours, call)


def simulated(simulator: str, program: bytes, call: Call) -> int:
    """What libseccomp's simulator (tools/scmp_bpf_sim.c) says of a call, as an action."""
    words = [word for index, value in enumerate(call.arguments) for word in (f"-{index}", str(value))]
    command = [simulator, "-f", "/dev/stdin", "-a", FACTS.machine.name, "-s", str(call.number), *words]
    said = subprocess.run(command, input=program, stdout=subprocess.PIPE, check=True).stdout.decode().strip()
    name, _, number = said.rstrip(")").partition("(")
    actions = {"ALLOW": bpf.ALLOW, "KILL_PROCESS": bpf.KILL, "TRAP": bpf.TRAP, "ERRNO": bpf.ERRNO}
    return actions[name] | int(number or 0)
