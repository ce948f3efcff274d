"""What a sandbox may ask of the kernel: a deny list, and a mark above which all calls are unknown. Pure.

A deny list and not an allow list: the sandbox's programs are any programs. What is newer than the table of calls that
sb knows is ENOSYS, as on an older kernel, so nothing that comes with a new kernel is open before somebody has looked.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.security import bpf
from rootless_sb.security.bpf import ALLOW, ERRNO, MASKED_EQUAL, Comparison, Decision, Policy, Rule

if TYPE_CHECKING:
    from rootless_sb.security.system_calls import Machine

DEFAULT = "default"
UNCONFINED = "unconfined"

_KEYS = ("add_key", "keyctl", "request_key")
# What reaches deep into the kernel, or manages the machine.
_MACHINE = (
    *("acct", "bpf", "delete_module", "finit_module", "init_module", "ioperm", "iopl", "kexec_file_load"),
    *("kexec_load", "open_by_handle_at", "perf_event_open", "quotactl", "quotactl_fd", "reboot", "swapoff"),
    *("swapon", "syslog", "userfaultfd"),
)
_MOUNTS = ("mount", "pivot_root", "umount2")
# Libraries fall back from these to the calls above, whose arguments can be read (clone3's flags lie in memory).
_NEW_MOUNTS = (
    *("fsconfig", "fsmount", "fsopen", "fspick", "mount_setattr", "move_mount", "open_tree", "open_tree_attr"),
    *("listmount", "statmount"),
)
_ASYNCHRONOUS = ("io_uring_enter", "io_uring_register", "io_uring_setup")

# <linux/sched.h>. CLONE_NEWTIME is unshare's alone: clone's low byte is a signal.
_NEW_TIME = 0x00000080
_NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000

# ioctls that type into a terminal: <asm-generic/ioctls.h>, ioctl_console(2).
_TIOCSTI = 0x5412
_TIOCLINUX = 0x541C
# <bits/socket.h>: the kernel's crypto, packets as they are on the wire, the hypervisor's host.
_FAMILIES = (38, 17, 40)

# The kernel looks at so much of a request and of a family only (ioctl(2) takes an unsigned int).
_INT = 0xFFFFFFFF


class Openings(NamedTuple):
    """What is open besides: `namespaces` and mounts of the sandbox's own; `joining` namespaces, for sb's own pid 1;
    `binding` processes to processors: where that is how `--cpus` holds, nobody may undo it.
    """

    namespaces: bool = False
    joining: bool = False
    binding: bool = True


def default_policy(machine: Machine, openings: Openings) -> Policy:
    """The policy in force unless another one is asked for."""
    refused = Decision(ERRNO | errno.EPERM)
    absent = Decision(ERRNO | errno.ENOSYS)
    decisions = dict.fromkeys(_MACHINE, refused)
    # crun and runc, which make a keyring for each container, go on without if the kernel has none.
    decisions.update(dict.fromkeys(_KEYS, absent if openings.namespaces else refused))
    decisions.update(dict.fromkeys(_ASYNCHRONOUS, absent))
    decisions["ioctl"] = _unless(errno.EPERM, 1, (_TIOCSTI, _TIOCLINUX))
    if not openings.binding:
        decisions["sched_setaffinity"] = refused
    decisions["socket"] = _unless(errno.EAFNOSUPPORT, 0, _FAMILIES)
    if not openings.namespaces:
        decisions.update(dict.fromkeys(_MOUNTS, refused))
        decisions.update(dict.fromkeys((*_NEW_MOUNTS, "clone3"), absent))
        decisions["clone"] = _without(_NEW_NAMESPACES)
        if not openings.joining:
            decisions["setns"] = refused
            decisions["unshare"] = _without(_NEW_NAMESPACES | _NEW_TIME)
    return Policy(
        architecture=machine.architecture,
        decisions={machine.numbers[name]: each for name, each in decisions.items() if name in machine.numbers},
        default=Decision(ALLOW),
        highest=max(machine.numbers.values()),
        unknown=absent,
    )


def default_program(machine: Machine, openings: Openings) -> bytes:
    """The default policy as the kernel takes it."""
    return bpf.assemble(default_policy(machine, openings))


def _unless(error: int, index: int, values: tuple[int, ...]) -> Decision:
    """Allowed, but an error for some values of an argument that is an int."""
    refusals = (Rule(ERRNO | error, (Comparison(index, MASKED_EQUAL, value, _INT),)) for value in values)
    return Decision(ALLOW, tuple(refusals))


def _without(flags: int) -> Decision:
    """Allowed while the first argument has none of these flags."""
    return Decision(ERRNO | errno.EPERM, (Rule(ALLOW, (Comparison(0, MASKED_EQUAL, 0, flags),)),))
