"""What this host has of what sb needs: a finding for each requirement."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rootless_sb import host, paths, sandboxes, spec, state
from rootless_sb.errors import SbError
from rootless_sb.kernel import namespaces, probes
from rootless_sb.requirements import REQUIREMENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_sb.requirements import Requirement


class Finding(NamedTuple):
    """Whether a requirement is met; `why` says why not."""

    requirement: Requirement
    ok: bool
    why: str


def examine() -> tuple[Finding, ...]:
    """Try everything out."""
    machine = host.probe()
    place = next(iter(paths.layer_places(dict(machine.environment))))
    tries: dict[str, Callable[[], str]] = {
        "user": lambda: probes.attempt(lambda: probes.make_namespaces(0)),
        **{name: _namespace_try(flag) for name, flag in namespaces.KINDS.items()},
        "nested": lambda: probes.attempt(probes.nest),
        "mounts": lambda: probes.attempt(probes.mount_something),
        "fuse": lambda: probes.attempt(probes.open_fuse),
        "libfuse": lambda: probes.attempt(probes.load_libfuse),
        "layers": lambda: _layer_try(machine),
        "newuidmap": lambda: "" if machine.newuidmap and machine.newgidmap else "not installed",
        "subids": lambda: "" if machine.subordinate_uids and machine.subordinate_gids else _no_ranges(machine.user),
        "xattrs": lambda: probes.attempt(lambda: probes.user_xattr(place)),
        "pidfd": lambda: probes.attempt(probes.pidfd),
        "landlock": lambda: probes.attempt(probes.landlock),
        "seccomp": lambda: probes.attempt(probes.seccomp),
        "cgroups": lambda: probes.attempt(probes.delegated_cgroup),
        "pasta": lambda: "" if host.program("pasta") else "not installed",
        "slirp4netns": lambda: "" if host.program("slirp4netns") else "not installed",
    }
    findings = ((requirement, tries[name]()) for name, requirement in REQUIREMENTS.items())
    return tuple(Finding(requirement, not why, why) for requirement, why in findings)


def _namespace_try(flag: int) -> Callable[[], str]:
    return lambda: probes.attempt(lambda: probes.make_namespaces(flag))


def _no_ranges(user: str) -> str:
    return f"{user} is not in /etc/subuid and /etc/subgid"


def _layer_try(machine: host.Host) -> str:
    """Make a sandbox's directory and remove it."""
    try:
        record = state.State(sandboxes.new_id(), "", False, state.CREATED, 0, spec.RunSpec(), (), "/", ())
        sandbox = sandboxes.create(record, paths.layer_places(dict(machine.environment)), "", machine.uid)
    except SbError as error:
        return str(error)
    sandboxes.remove(sandbox, machine.uid)
    return ""
