"""What a run is held to, decided from what was asked and what the host can do."""

from __future__ import annotations

import json

import pytest

from rootless_sb.errors import SbError
from rootless_sb.plan import make_plan
from rootless_sb.requirements import REQUIREMENTS
from rootless_sb.security import barriers, capabilities, landlock
from rootless_sb.spec import RunSpec
from rootless_sb.steps import BindDevice, IfPossible, MakeReadOnly, Mask, MountAt, Step
from rootless_sb.ui import plans
from tests.unit.hosts import HOST

NAMESPACES = ("mount", "net", "uts", "ipc", "cgroup", "pid")


def decide(**asked: object) -> barriers.Barriers:
    """The barriers of a run that asks for this."""
    wanted = RunSpec(**asked)  # type: ignore[arg-type]
    given_up = wanted.allow_degraded
    return barriers.decide(wanted, HOST, tuple(name for name in NAMESPACES if name not in given_up))


def test_everything_is_in_force_unless_it_is_given_up() -> None:
    """Every barrier has the name by which it is given up, and `sb doctor` knows it."""
    in_force = decide().in_force(NAMESPACES)
    assert {"user", *NAMESPACES, "nested", "no_new_privs", "seccomp", "landlock"} == set(in_force)
    assert set(in_force) <= set(REQUIREMENTS)
    for name in ("nested", "seccomp", "landlock"):
        assert set(in_force) - {name} == set(decide(allow_degraded=(name,)).in_force(NAMESPACES))


def test_seccomp_needs_no_new_privs() -> None:
    """One can't be given up without the other."""
    with pytest.raises(SbError) as caught:
        decide(allow_degraded=("no_new_privs",))
    assert "--allow-degraded seccomp" in caught.value.hint
    given_up = decide(allow_degraded=("no_new_privs", "seccomp"))
    assert (False, b"") == (given_up.no_new_privileges, given_up.program)


def test_landlock_is_a_second_line() -> None:
    """Missing: one warning; an error where the network is the host's; nothing where it is given up."""
    old = HOST._replace(landlock=0)
    assert (barriers.WITHOUT_LANDLOCK,) == barriers.decide(RunSpec(), old, NAMESPACES).warnings(())
    assert () == decide().warnings(())
    given_up = RunSpec(allow_degraded=("landlock",))
    assert () == barriers.decide(given_up, old, NAMESPACES).warnings(given_up.allow_degraded)
    with pytest.raises(SbError) as caught:
        barriers.decide(RunSpec(allow_degraded=("net",)), old, ("mount", "pid"))
    assert "--allow-degraded landlock" in caught.value.hint
    assert decide(allow_degraded=("net",)).landlock.scoped


def test_an_unknown_machine() -> None:
    """Without a table of its system calls sb refuses, and says what to give up."""
    with pytest.raises(SbError) as caught:
        barriers.decide(RunSpec(), HOST._replace(machine="riscv64"), NAMESPACES)
    assert "--allow-degraded seccomp" in caught.value.hint
    without = RunSpec(allow_degraded=("seccomp",))
    assert b"" == barriers.decide(without, HOST._replace(machine="riscv64"), NAMESPACES).program


@pytest.mark.parametrize(
    ("version", "sandbox", "server"),
    [
        (0, (), ()),
        (1, (), ()),  # without REFER no rename would work
        (2, ("files",), ("files",)),
        (4, ("files",), ("files", "tcp")),
        (7, ("files", "abstract_unix_sockets", "signals"), ("files", "tcp", "abstract_unix_sockets", "signals")),
    ],
)
def test_landlocks_versions(version: int, sandbox: tuple[str, ...], server: tuple[str, ...]) -> None:
    """Each version of the interface restricts what it can, and no bit that it doesn't know."""
    domains = (landlock.target(version, nested=False), landlock.overlay_server(version))
    assert (sandbox, server) == tuple(domain.restricts() for domain in domains)
    given_up = barriers.decide(RunSpec(allow_degraded=("landlock",)), HOST._replace(landlock=version), NAMESPACES)
    assert ((), server) == (given_up.landlock.restricts(), given_up.server_landlock.restricts())
    known = {0: 0, 1: 13, 2: 14, 4: 15, 7: 16}[version]
    assert all(domain.files < 1 << known or not domain.files for domain in domains)
    assert all(domain.granted & domain.files == domain.granted for domain in domains)
    assert landlock.Domain() == landlock.target(version, nested=True)


@pytest.mark.parametrize(
    ("added", "dropped", "expected"),
    [
        ((), (), capabilities.DEFAULT),
        (("SYS_PTRACE",), ("ALL",), ("SYS_PTRACE",)),
        (("cap_sys_ptrace,cap_sys_nice",), ("all",), ("SYS_PTRACE", "SYS_NICE")),
        ((), ("CHOWN", "KILL"), tuple(name for name in capabilities.DEFAULT if name not in ("CHOWN", "KILL"))),
        (("ALL",), ("CHOWN",), tuple(set(capabilities.NAMES) - set(capabilities.REFUSED) - {"CHOWN"})),
    ],
)
def test_capabilities(added: tuple[str, ...], dropped: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """Names in docker's forms; ALL comes first, then what was added, then what was dropped."""
    assert sorted(expected) == sorted(capabilities.kept(added, dropped, nested=False))


@pytest.mark.parametrize("name", ["SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_RAWIO", "BPF", "PERFMON", "NONSENSE"])
def test_capabilities_that_cannot_be_had(name: str) -> None:
    """Those that would mean nothing inside are refused with the reason, and not among the default ones."""
    assert name not in capabilities.DEFAULT
    with pytest.raises(SbError, match=f"--cap-add {name}"):
        capabilities.kept((name,), (), nested=False)


def test_masks() -> None:
    """/proc and /sys are masked before they are attached; a nested sandbox is given all of them, and /dev/fuse."""
    plain = make_plan(RunSpec(), HOST, (), "x").steps
    nested = make_plan(RunSpec(nested=True), HOST, (), "x").steps
    masked = {step.place for step in plain if isinstance(step, Mask)}
    assert {"proc/kcore", "proc/keys", "sys/firmware"} <= masked
    read_only = {step.place for step in plain if isinstance(step, MakeReadOnly)}
    assert {"proc/sys", "proc/sysrq-trigger", "proc/irq"} <= read_only
    assert [] == [step for step in nested if isinstance(step, Mask | MakeReadOnly)]
    assert BindDevice("/dev/fuse", "dev/fuse") in nested
    assert BindDevice("/dev/fuse", "dev/fuse") not in plain

    def kinds(steps: tuple[Step, ...]) -> set[str]:
        inner = (step.step if isinstance(step, IfPossible) else step for step in steps)
        return {step.kind for step in inner if isinstance(step, MountAt)}

    assert "cgroup2" in kinds(nested)
    assert "fusectl" not in kinds(plain) | kinds(nested)


def test_dry_run_shows_them() -> None:
    """`--dry-run --json` has what is in force, the capabilities, the profile and Landlock's rights."""
    document = json.loads(plans.as_json(make_plan(RunSpec(nested=True), HOST, (), "x")))
    shown = document["plan"]["barriers"]
    assert {"in_force", "nested", "capabilities", "seccomp", "landlock"} == set(shown)
    assert shown["nested"]
    assert "SYS_ADMIN" in shown["capabilities"]
    assert "default" == shown["seccomp"]["profile"]
    assert "barrier   seccomp" in plans.as_text(make_plan(RunSpec(), HOST, (), "x"))
