"""What this host has of what sb needs: a finding for each requirement."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb import cgroups, control_group, host, limits, paths, sandboxes, spec, state
from rootless_sb.errors import SbError
from rootless_sb.kernel import channel, landlock, namespaces, probes, processes, seccomp
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
        "no_new_privs": lambda: probes.attempt(probes.forbid_new_privileges),
        "fuse": lambda: probes.attempt(probes.open_fuse),
        "libfuse": lambda: probes.attempt(probes.load_libfuse),
        "layers": lambda: _layer_try(machine),
        "newuidmap": lambda: "" if machine.newuidmap and machine.newgidmap else "not installed",
        "subids": lambda: "" if machine.subordinate_uids and machine.subordinate_gids else _no_ranges(machine.user),
        "xattrs": lambda: probes.attempt(lambda: probes.user_xattr(place)),
        "pidfd": lambda: probes.attempt(probes.pidfd),
        "landlock": lambda: probes.attempt(landlock.version),
        "seccomp": lambda: probes.attempt(seccomp.probe),
        "cgroups": lambda: _group_try(machine),
        "pasta": lambda: "" if host.program("pasta") else "not installed",
        "slirp4netns": lambda: "" if host.program("slirp4netns") else "not installed",
    }
    findings = ((requirement, tries[name]()) for name, requirement in REQUIREMENTS.items())
    return tuple(Finding(requirement, not why, why) for requirement, why in findings)


def _namespace_try(flag: int) -> Callable[[], str]:
    return lambda: probes.attempt(lambda: probes.make_namespaces(flag))


def _group_try(machine: host.Host) -> str:
    """Put a process into a group with limits, as a sandbox's pid 1 is."""
    ours, theirs = channel.pair()
    pid = processes.fork(lambda: _stay(theirs), {theirs.fileno()})
    theirs.close()
    wanted = limits.decide(spec.RunSpec(memory="1g", cpus="0.5"), machine)
    owner = (machine.uid, paths.runtime(dict(machine.environment), machine.uid))
    group = control_group.place(pid, sandboxes.new_id(), wanted, owner)
    ours.close()
    os.waitpid(pid, 0)
    if group is None:
        return "there is none that this user may make groups in"
    group.remove()
    missing = [name for name in cgroups.FILES if name not in group.held]
    return f"its controllers aren't passed on: {', '.join(missing)}" if missing else ""


def _stay(end: channel.Channel) -> int:
    end.wait_for_end()
    return 0


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
