"""The capabilities that root has in a sandbox: capabilities(7). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless_sb.errors import SbError

if TYPE_CHECKING:
    from collections.abc import Iterable

# In the order of their numbers: <linux/capability.h>.
_NUMBERED = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
    SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
    MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
NAMES = tuple(_NUMBERED.split())

# What podman leaves root of a rootless container (containers.conf(5), default_capabilities).
DEFAULT = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP"),
    *("SETUID", "SYS_CHROOT"),
)
# What a sandbox that makes namespaces of its own needs over those.
NESTED = ("NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "SYS_RESOURCE", "MKNOD", "AUDIT_WRITE")

_FOREIGN = "the sandbox's mounts and network belong to an outer user namespace, where root inside has no power"
_HOSTS = "the kernel gives it to no user namespace but the host's"
# Why some can't be given.
REFUSED = {
    **dict.fromkeys(("NET_ADMIN", "NET_RAW", "SYS_ADMIN"), _FOREIGN),
    **dict.fromkeys(("BPF", "PERFMON", "SYS_RAWIO"), _HOSTS),
}
_NESTED_HINT = "--nested lets the sandbox make namespaces of its own, in which it has it"
_ALL = "ALL"


def kept(added: tuple[str, ...], dropped: tuple[str, ...], *, nested: bool) -> tuple[str, ...]:
    """The names of the capabilities that root has, in the order of their numbers.

    `added` and `dropped` are names as docker takes them: in any case, with or without CAP_, or ALL, which counts before
    single ones. Raises SbError for an unknown name, or one that can't be given.
    """
    more, less = names("--cap-add", added), names("--cap-drop", dropped)
    given = {*DEFAULT, *(NESTED if nested else ())}
    if _ALL in less:
        given = set()
    if _ALL in more:
        given = {name for name in NAMES if name not in REFUSED or name in given}
    for name in more:
        if name in REFUSED and name not in given:
            raise SbError(f"--cap-add {name}", REFUSED[name], _NESTED_HINT if REFUSED[name] is _FOREIGN else "")
    given = (given | {name for name in more if name != _ALL}) - set(less)
    return tuple(name for name in NAMES if name in given)


def names(option: str, words: Iterable[str]) -> tuple[str, ...]:
    """Words as names of capabilities or ALL; one word may hold several with commas. Raises SbError."""
    found = []
    for word in (part for words_together in words for part in words_together.split(",")):
        name = word.strip().upper().removeprefix("CAP_")
        if name not in NAMES and name != _ALL:
            raise SbError(f"{option} {word}", "not a capability", _nearest(name))
        found.append(name)
    return tuple(found)


def mask(held: Iterable[str]) -> int:
    """The capabilities with these names as the kernel's set of bits."""
    return sum(1 << NAMES.index(name) for name in held)


def _nearest(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, NAMES, 1, 0.5)
    return f"did you mean {near[0]}?" if near else "capabilities(7) lists them"
