"""Which barriers a sandbox stands behind, besides namespaces: decided here, put up by pid 1 and its children. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError
from rootless_sb.requirements import REQUIREMENTS, hint
from rootless_sb.security import bpf, capabilities, landlock, seccomp
from rootless_sb.security.system_calls import machine

if TYPE_CHECKING:
    from rootless_sb.host import Host
    from rootless_sb.security.landlock import Domain
    from rootless_sb.spec import RunSpec

USER = "user"
INNER = "nested"
NO_NEW_PRIVILEGES = "no_new_privs"
SECCOMP = "seccomp"
LANDLOCK = "landlock"

# What `--nested` opens, in words.
OPENED = (
    "--nested: the sandbox may make namespaces and mounts of its own, with root's powers over them; nothing of /proc "
    "and /sys is masked, /dev/fuse is there, and Landlock doesn't guard it"
)
WITHOUT_LANDLOCK = (
    "this kernel has no Landlock of use, a second line of defence: going on without "
    "(SB_ALLOW_DEGRADED=landlock in the environment: no more of this)"
)


class Barriers(NamedTuple):
    """`profile` names the seccomp filter, of which `program` is the code (empty for none) and `own_program` what pid 1
    itself, which must start others in B, is held to. `inner`: the target is in B, nested in A. `capabilities`: names,
    of what root has inside. `landlock_version`: of the kernel's interface, 0 where there is none or it was given up.
    """

    nested: bool
    inner: bool
    no_new_privileges: bool
    capabilities: tuple[str, ...]
    profile: str
    program: bytes
    own_program: bytes
    landlock_version: int
    landlock: Domain
    server_landlock: Domain

    def in_force(self, namespaces: tuple[str, ...]) -> tuple[str, ...]:
        """The names of all barriers in force, `namespaces` among them, as `--allow-degraded` takes them."""
        own = {
            INNER: self.inner,
            NO_NEW_PRIVILEGES: self.no_new_privileges,
            SECCOMP: bool(self.program),
            LANDLOCK: bool(self.landlock.restricts()),
        }
        return (USER, *namespaces, *(name for name, there in own.items() if there))

    def described(self, namespaces: tuple[str, ...]) -> dict[str, object]:
        """The barriers in force, as data for JSON."""
        return {
            "in_force": self.in_force(namespaces),
            "nested": self.nested,
            "capabilities": self.capabilities,
            "seccomp": {"profile": self.profile, "instructions": len(self.program) // bpf.INSTRUCTION},
            "landlock": {
                "version": self.landlock_version,
                "sandbox": self.landlock.restricts(),
                "overlay_server": self.server_landlock.restricts(),
            },
        }

    def warnings(self, given_up: tuple[str, ...]) -> tuple[str, ...]:
        """What the user should hear of at the start."""
        said = (OPENED,) if self.nested else ()
        missing = not self.landlock.restricts() and not self.nested and LANDLOCK not in given_up
        return (*said, WITHOUT_LANDLOCK) if missing else said


def decide(wanted: RunSpec, host: Host, namespaces: tuple[str, ...]) -> Barriers:
    """The barriers of a run whose own `namespaces` are these. Raises SbError for what can't be."""
    given_up = wanted.allow_degraded
    version = 0 if LANDLOCK in given_up else host.landlock
    domain = landlock.target(version, nested=wanted.nested)
    if "net" not in namespaces and not domain.scoped and LANDLOCK not in given_up:
        why = "nothing else keeps the sandbox from the abstract sockets of the host's network"
        raise SbError("no Landlock with scopes (Linux 6.12)", why, hint(LANDLOCK))
    filtered = SECCOMP not in given_up and wanted.seccomp != seccomp.UNCONFINED
    no_new_privileges = NO_NEW_PRIVILEGES not in given_up
    if filtered and not no_new_privileges:
        raise SbError(
            f"--allow-degraded {NO_NEW_PRIVILEGES}", "seccomp filters need it", f"add --allow-degraded {SECCOMP}"
        )
    own, target = _programs(wanted, host) if filtered else (b"", b"")
    return Barriers(
        nested=wanted.nested,
        inner=INNER not in given_up,
        no_new_privileges=no_new_privileges,
        capabilities=capabilities.kept(wanted.capabilities_added, wanted.capabilities_dropped, nested=wanted.nested),
        profile=wanted.seccomp if filtered else seccomp.UNCONFINED,
        program=target,
        own_program=own,
        landlock_version=version,
        landlock=domain,
        server_landlock=landlock.overlay_server(host.landlock),  # whatever the sandbox gives up
    )


def _programs(wanted: RunSpec, host: Host) -> tuple[bytes, bytes]:
    """The seccomp programs of pid 1 and of what it starts. Raises SbError.

    What pid 1's filter forbids, its children can't do, so with a profile of the user's own it has none.
    """
    known = machine(host.machine)
    if known is None:
        raise SbError(
            REQUIREMENTS[SECCOMP].failure, f"sb knows no system calls of {host.machine}", f"--allow-degraded {SECCOMP}"
        )
    if wanted.seccomp != seccomp.DEFAULT:
        from rootless_sb.security import oci_profile

        kept = capabilities.kept(wanted.capabilities_added, wanted.capabilities_dropped, nested=wanted.nested)
        facts = oci_profile.Circumstances(known, kept, host.release)
        return b"", oci_profile.program(wanted.seccomp, wanted.seccomp_profile, facts)
    openings = seccomp.Openings(namespaces=wanted.nested, binding=not wanted.cpus)
    return (
        seccomp.default_program(known, openings._replace(joining=True)),
        seccomp.default_program(known, openings),
    )
