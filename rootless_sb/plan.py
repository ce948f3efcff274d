"""From what was asked and what the host can do to what will be done. Pure: a plan is data, printed by `--dry-run`."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NamedTuple

from fuse_overlay.config import Config, Extent, Lower
from rootless_sb import paths, spec, stdio
from rootless_sb.errors import SbError
from rootless_sb.kernel.namespaces import KINDS
from rootless_sb.maps import id_maps
from rootless_sb.program import Target, without_own
from rootless_sb.requirements import REQUIREMENTS
from rootless_sb.root import root_steps
from rootless_sb.state import CREATED, State

if TYPE_CHECKING:
    from rootless_sb.host import Host
    from rootless_sb.kernel.descriptors import Descriptor
    from rootless_sb.maps import IdMaps, MapLine
    from rootless_sb.spec import RunSpec
    from rootless_sb.steps import Step

_IMAGE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Plan(NamedTuple):
    """All of a run, decided. `places`: where the directory of a sandbox that isn't kept may lie, best first;
    `store`: where those lie that are. `record` is what is written down of the sandbox. `existing`: start this
    sandbox, a directory, again; empty for a new one.

    `parent`: the process with whose end the sandbox ends, 0 for none: the one that started sb, unless that is the
    machine's init or sb runs under nohup(1).

    `with_one_id` is the same run without subordinate ids, for the case that their helpers refuse.
    """

    identifier: str
    uid: int
    namespaces: tuple[str, ...]
    places: tuple[str, ...]
    id_maps: IdMaps
    overlay: Config
    mount_options: str
    steps: tuple[Step, ...]
    attachments: tuple[stdio.Attachment, ...]
    target: Target
    quiet: bool
    greeting: str
    parent: int
    store: str
    record: State
    timeout: float  # seconds that the command may run, 0 for ever
    existing: str = ""
    with_one_id: Plan | None = None


def make_plan(wanted: RunSpec, host: Host, descriptors: tuple[Descriptor, ...], identifier: str) -> Plan:
    """Decide everything about a run. Raises SbError for what can't be."""
    plan = _plan_once(wanted, host, descriptors, identifier)
    if plan.id_maps.helpers is None:
        return plan
    return plan._replace(
        with_one_id=_plan_once(wanted, host._replace(newuidmap=None, newgidmap=None), descriptors, identifier)
    )


def _plan_once(wanted: RunSpec, host: Host, descriptors: tuple[Descriptor, ...], identifier: str) -> Plan:
    environment = dict(host.environment)
    maps = id_maps(wanted.userns, host)
    own_uid, own_gid = (host.uid, host.gid) if wanted.userns == spec.KEEP_ID else (0, 0)
    lower = Lower(os.fsencode(wanted.rootfs or "/"), layer=False, live=True)
    places = paths.layer_places(environment)
    if wanted.detach:
        attachments = stdio.detached(wanted.tty)
    else:
        attachments = stdio.attachments(descriptors, wanted.tty, wanted.interactive)
    program = target(wanted, host)
    return Plan(
        identifier=identifier,
        uid=host.uid,
        namespaces=namespaces(wanted.allow_degraded),
        places=places,
        id_maps=maps,
        overlay=Config(
            lowers=(lower,),
            hidden=tuple(map(os.fsencode, (*paths.own_paths(environment, host.uid, host.home), *wanted.hidden))),
            hidden_names=tuple(map(os.fsencode, paths.base_names(host.uid))),
            own_uid=own_uid,
            own_gid=own_gid,
            uids=_extents(maps.uids),
            gids=_extents(maps.gids),
        ),
        mount_options=f"rootmode=40000,user_id={own_uid},group_id={own_gid},allow_other,default_permissions",
        steps=root_steps(
            own=namespaces(wanted.allow_degraded),
            hostname=wanted.hostname or identifier,
            etc_hosts=host.etc_hosts if wanted.rootfs is None else b"127.0.0.1\tlocalhost\n::1\tlocalhost\n",
            devices=host.devices,
            gids=maps.gids,
            pty=stdio.on_terminal(attachments),
        ),
        attachments=attachments,
        target=program,
        quiet=wanted.quiet,
        greeting=_greeting(wanted, terminal=stdio.on_terminal(attachments)),
        parent=_parent(wanted, host),
        store=paths.store(environment, host.home),
        record=_record(wanted, identifier, program),
        timeout=wanted.timeout,
    )


def _greeting(wanted: RunSpec, *, terminal: bool) -> str:
    """What is said at the start: to whoever sits at the terminal, or asked for it."""
    return greeting(wanted) if wanted.verbose or (terminal and not wanted.quiet and not wanted.detach) else ""


def _parent(wanted: RunSpec, host: Host) -> int:
    """The process with whose end the sandbox ends, 0 for none."""
    if wanted.detach or signal.SIGHUP in host.ignored_signals or host.parent <= 1:
        return 0
    return host.parent


def _record(wanted: RunSpec, identifier: str, program: Target) -> State:
    return State(
        identifier=identifier,
        name=wanted.name,
        kept=wanted.keep,
        status=CREATED,
        created=0,  # when that is, whoever makes the directory knows
        wanted=wanted,
        command=program.arguments,
        directory=program.directory,
        environment=program.environment,
    )


def with_layer(plan: Plan, directory: str) -> Plan:
    """The plan once the sandbox's directory is known."""
    upper, work = (os.fsencode(f"{directory}/{part}") for part in ("upper", "work"))
    return plan._replace(
        overlay=plan.overlay._replace(upper=upper, work=work),
        with_one_id=with_layer(plan.with_one_id, directory) if plan.with_one_id else None,
    )


def again(plan: Plan, known: State, directory: str, program: Target) -> Plan:
    """The plan to start a sandbox that is there: in its `directory`, with what is known of it."""
    return plan._replace(
        identifier=known.identifier,
        existing=directory,
        record=known,
        target=program,
        with_one_id=again(plan.with_one_id, known, directory, program) if plan.with_one_id else None,
    )


def namespaces(given_up: tuple[str, ...]) -> tuple[str, ...]:
    """The namespaces to make besides A, without those that the caller can do without. Raises SbError for a bad name."""
    degradable = [name for name, requirement in REQUIREMENTS.items() if requirement.degradable]
    for name in given_up:
        if name not in degradable:
            choices = ", ".join(degradable)
            raise SbError(f"--allow-degraded {name}", "not a check that can be given up", f"one of {choices}")
    return tuple(name for name in KINDS if name not in given_up)


def greeting(wanted: RunSpec) -> str:
    """What a person at a terminal is told at the start: what is shut."""
    shut = [] if "net" in wanted.allow_degraded else ["no network"]
    if wanted.hidden:
        shut.append(f"hidden: {', '.join(wanted.hidden)}")
    return "; ".join((*shut, "changes are kept" if wanted.keep else "changes are thrown away at the end"))


def _extents(lines: tuple[MapLine, ...]) -> tuple[Extent, ...]:
    return tuple(Extent(line.inside, line.size) for line in lines)


def target(wanted: RunSpec, host: Host) -> Target:
    """The program, its environment and its working directory. Raises SbError."""
    environment = target_environment(wanted, host)
    directory = wanted.workdir or ("/" if wanted.rootfs else host.directory)
    if directory is None:
        raise SbError("cannot find the working directory", "it was removed", "cd elsewhere, or name one with -w DIR")
    if not directory.startswith("/"):
        raise SbError(f"--workdir {directory}", "not an absolute path", f"sb run -w {os.path.abspath(directory)} …")
    command = wanted.command or ((environment.get("SHELL") or "/bin/sh") if wanted.rootfs is None else "/bin/sh",)
    return Target(command, tuple(environment.items()), directory, host.umask, host.ignored_signals, wanted.user)


def target_environment(wanted: RunSpec, host: Host) -> dict[str, str]:
    """The target's variables: the caller's on the host's view, few over a root file system, then what was asked."""
    environment = dict(host.environment)
    if wanted.rootfs is not None:
        environment = {"PATH": _IMAGE_PATH, "HOME": "/root"}
        if term := dict(host.environment).get("TERM"):
            environment["TERM"] = term
    if wanted.clear_environment:
        environment = {}
    if wanted.user:
        environment = without_own(environment)
    for name in wanted.unset_environment:
        environment.pop(name, None)
    environment.update(wanted.environment)
    return environment
