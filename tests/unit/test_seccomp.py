"""The default filter: what it lets through, on both machines, and how long its way is."""

from __future__ import annotations

import errno

import pytest

from rootless_sb.security import bpf, seccomp
from rootless_sb.security.seccomp import Openings
from rootless_sb.security.system_calls import Machine, machine
from tests.unit.bpf_evaluator import Call, instructions, run

MACHINES = tuple(each for each in map(machine, ("x86_64", "aarch64")) if each is not None)
PROGRAMS = {
    (each.name, openings): seccomp.default_program(each, openings)
    for each in MACHINES
    for openings in (Openings(), Openings(namespaces=True), Openings(joining=True))
}
REFUSED = """acct add_key bpf delete_module finit_module init_module kexec_file_load kexec_load keyctl mount
    open_by_handle_at perf_event_open pivot_root quotactl quotactl_fd reboot request_key setns swapoff swapon syslog
    umount2 userfaultfd"""
ABSENT = """clone3 fsconfig fsmount fsopen fspick io_uring_enter io_uring_register io_uring_setup listmount move_mount
    mount_setattr open_tree open_tree_attr statmount"""
# What debuggers, sanitizers, MPI and language runtimes can't do without.
NEEDED = """arch_prctl clone execve execveat fork futex ioctl kcmp membarrier memfd_create mmap mprotect openat openat2
    personality pidfd_getfd pidfd_open prctl process_vm_readv process_vm_writev ptrace rseq seccomp set_mempolicy
    sched_setaffinity socket statx landlock_create_ruleset landlock_restrict_self chroot name_to_handle_at unshare"""
EPERM, ENOSYS = bpf.ERRNO | errno.EPERM, bpf.ERRNO | errno.ENOSYS
NEW_USER, NEW_TIME = 0x10000000, 0x80


def decide(on: Machine, name: str, *arguments: int, openings: Openings = Openings()) -> int:  # noqa: B008 (constant)
    """What the filter says of a call by name."""
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    return run(PROGRAMS[on.name, openings], Call(on.numbers[name], on.architecture, padded))


@pytest.mark.parametrize("on", MACHINES, ids=lambda each: each.name)
def test_whole_calls(on: Machine) -> None:
    """The listed calls are EPERM or ENOSYS, whatever their arguments, and what programs need is allowed."""
    for names, answer in ((REFUSED, EPERM), (ABSENT, ENOSYS), (NEEDED, bpf.ALLOW)):
        for name in names.split():
            if name in on.numbers:
                assert answer == decide(on, name), name


@pytest.mark.parametrize("on", MACHINES, ids=lambda each: each.name)
def test_calls_whose_arguments_count(on: Machine) -> None:
    """Namespace flags, terminal injection on the low 32 bits, and three families of sockets."""
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, NEW_USER, 0x20000000, 0x40000000):
        assert EPERM == decide(on, "unshare", flag) == decide(on, "clone", flag | 17)
        assert EPERM == decide(on, "clone", 1 << 40 | flag)
    assert EPERM == decide(on, "unshare", NEW_TIME)
    assert bpf.ALLOW == decide(on, "clone", NEW_TIME) == decide(on, "clone", 0x3D0F00)  # a signal's bits; a thread
    assert bpf.ALLOW == decide(on, "unshare", 0x400)  # CLONE_FILES
    for request in (0x5412, 0x541C):
        assert EPERM == decide(on, "ioctl", 0, request) == decide(on, "ioctl", 0, 0xDEADBEEF << 32 | request)
    assert bpf.ALLOW == decide(on, "ioctl", 0, 0x5413) == decide(on, "ioctl", 0x5412, 0x5401)
    for family in (17, 38, 40):
        no_family = bpf.ERRNO | errno.EAFNOSUPPORT
        assert no_family == decide(on, "socket", family) == decide(on, "socket", 1 << 32 | family)
    assert bpf.ALLOW == decide(on, "socket", 1, 17) == decide(on, "socket", 2, 38)


@pytest.mark.parametrize("on", MACHINES, ids=lambda each: each.name)
def test_numbers(on: Machine) -> None:
    """What is newer than the table is ENOSYS, x32 and foreign architectures are killed, -1 is the tracer's."""
    program = PROGRAMS[on.name, Openings()]
    newest = max(on.numbers.values())
    assert bpf.ALLOW == run(program, Call(newest, on.architecture)) == run(program, Call(0xFFFFFFFF, on.architecture))
    assert ENOSYS == run(program, Call(newest + 1, on.architecture)) == run(program, Call(0x3FFFFFFF, on.architecture))
    for number in (0x40000000, 0xFFFFFFFE):
        assert bpf.KILL == run(program, Call(number, on.architecture))
    for foreign in {0x40000003, 0x40000028, 0xC000003E, 0xC00000B7} - {on.architecture}:
        assert bpf.KILL == run(program, Call(on.numbers["read"], foreign))


@pytest.mark.parametrize("on", MACHINES, ids=lambda each: each.name)
def test_what_nested_opens(on: Machine) -> None:
    """--nested opens namespaces and mounts, old interface and new, and nothing else."""
    nested, own = Openings(namespaces=True), Openings(joining=True)
    opened = {"mount", "umount2", "pivot_root", "setns", *ABSENT.split()} - {
        "io_uring_enter", "io_uring_register", "io_uring_setup",
    }  # fmt: skip
    for name in (*REFUSED.split(), *ABSENT.split()):
        if name in on.numbers:
            assert (name in opened) == (bpf.ALLOW == decide(on, name, openings=nested)), name
    for openings in (nested, own):
        assert bpf.ALLOW == decide(on, "unshare", NEW_USER, openings=openings)
    assert bpf.ALLOW == decide(on, "setns", openings=own)
    assert EPERM == decide(on, "mount", openings=own) == decide(on, "ioctl", 0, 0x5412, openings=nested)
    assert ENOSYS == decide(on, "keyctl", openings=nested)


def test_length() -> None:
    """The programs are short, and each is one that the kernel takes."""
    assert max(len(instructions(program)) for program in PROGRAMS.values()) < 200


def test_tables() -> None:
    """The two tables know hundreds of calls, by different numbers up to 423 and by the same ones from there on."""
    x86, arm = MACHINES
    assert (0, 63) == (x86.numbers["read"], arm.numbers["read"])
    assert (59, 221) == (x86.numbers["execve"], arm.numbers["execve"])
    shared = {name for name, number in x86.numbers.items() if number > 423}
    assert [] == [name for name in shared if x86.numbers[name] != arm.numbers[name]]
    assert None is machine("riscv64")
    assert len(set(x86.numbers.values())) == len(x86.numbers) > 350
