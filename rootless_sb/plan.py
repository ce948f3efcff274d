"""From what was asked and what the host can do to what will be done. Pure: a plan is data, printed by `--dry-run`."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from fuse_overlay.config import OPERATIONS, Config, Extent, Lower
from fuse_overlay.tuples import NamedTuple
from rootless_sb import engines, limits, paths, secrets, spec, stdio, variables
from rootless_sb.errors import SbError
from rootless_sb.image import running
from rootless_sb.kernel.namespaces import KINDS
from rootless_sb.limits import OVERLAY, SUPERVISOR, Held
from rootless_sb.maps import id_maps
from rootless_sb.program import Target, without_own
from rootless_sb.requirements import REQUIREMENTS
from rootless_sb.root import root_steps
from rootless_sb.security import barriers
from rootless_sb.state import CREATED, State
from rootless_sb.volumes import (
    guarded,
    hidden_on_host,
    outside,
    parse_scratch,
    parse_volume,
    pins,
    read_only_within,
    require_apart,
    require_others,
    volume_steps,
    with_held,
    without_hidden,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless_sb.host import Host
    from rootless_sb.image.running import Base
    from rootless_sb.kernel.descriptors import Descriptor
    from rootless_sb.limits import Limits
    from rootless_sb.maps import IdMaps, MapLine
    from rootless_sb.secrets import Secret
    from rootless_sb.security.barriers import Barriers
    from rootless_sb.spec import RunSpec
    from rootless_sb.steps import Step
    from rootless_sb.volumes import Guarded, Volume

GENERATED = "generated"  # where the layer of `generated` lies in a sandbox's directory
_KEPT_FREE = 5  # percent of the file system with the layer, which no sandbox takes unless it is told how much it may
_LOCALHOST = b"127.0.0.1\tlocalhost\n::1\tlocalhost\n"


class Plan(NamedTuple):
    """All of a run, decided. `places`: where the directory of a sandbox that isn't kept may lie, best first;
    `store`: where those lie that are. `record` is what is written down of the sandbox. `existing`: start this
    sandbox, a directory, again; empty for a new one.

    `runtime`: the directory of the user's sockets, where systemd may have one.

    `parent`: the process with whose end the sandbox ends, 0 for none: the one that started sb, unless that is the
    machine's init or sb runs under nohup(1).

    `guarded`: volumes in which what runs by itself stays as it is. `drops_groups`: pid 1 gives up the user's
    supplementary groups, and with it all that runs inside.

    `with_one_id` is the same run without subordinate ids, for the case that their helpers refuse; None if it can't be
    had with one id.
    """

    identifier: str
    uid: int
    namespaces: tuple[str, ...]
    places: tuple[str, ...]
    id_maps: IdMaps
    engine: str
    overlay: Config
    mount_options: str
    steps: tuple[Step, ...]
    barriers: Barriers
    limits: Limits
    runtime: str
    warnings: tuple[str, ...]
    attachments: tuple[stdio.Attachment, ...]
    target: Target
    quiet: bool
    greeting: str
    parent: int
    store: str
    record: State
    timeout: float  # seconds that the command may run, 0 for ever
    home: str  # the user's, for what is said of paths in it
    image: str = ""  # the directory of the image to hold meanwhile
    drops_groups: bool = False
    guarded: tuple[Guarded, ...] = ()
    existing: str = ""
    with_one_id: Plan | None = None


def make_plan(
    wanted: RunSpec, host: Host, descriptors: tuple[Descriptor, ...], identifier: str, base: Base | None = None
) -> Plan:
    """Decide everything about a run, on the image `base` if one is given. Raises SbError for what can't be."""
    engines.require(wanted)
    behind = barriers.decide(wanted, host, namespaces(wanted))  # takes longer than all the rest
    plan = _plan_once(wanted, host, descriptors, identifier, base, behind)
    if plan.id_maps.helpers is None:
        return plan
    without = host._replace(newuidmap=None, newgidmap=None)
    try:
        return plan._replace(with_one_id=_plan_once(wanted, without, descriptors, identifier, base, behind))
    except SbError:
        return plan


def _plan_once(
    wanted: RunSpec,
    host: Host,
    descriptors: tuple[Descriptor, ...],
    identifier: str,
    base: Base | None,
    behind: Barriers,
) -> Plan:
    environment = dict(host.environment)
    maps = id_maps(wanted.userns, host)
    own_uid, own_gid = _own_ids(wanted, host)
    attachments = stdio.attachments(descriptors, wanted.tty, wanted.interactive)
    if wanted.detach:
        attachments = stdio.detached(descriptors, wanted.tty)
    terminal = stdio.on_terminal(attachments)
    if base is None:
        program = target(wanted, host)
    else:
        program = _image_target(wanted, host, base, identifier, terminal=terminal, one_id=maps.helpers is None)
    own = namespaces(wanted)
    return Plan(
        identifier=identifier,
        uid=host.uid,
        namespaces=own,
        places=paths.layer_places(environment),
        id_maps=maps,
        engine=wanted.engine,
        overlay=overlay(wanted, host, base, maps),
        mount_options=f"rootmode=40000,user_id={own_uid},group_id={own_gid},allow_other,default_permissions",
        steps=root_steps(
            own=own,
            hostname=_host_name(wanted, host, identifier),
            etc_hosts=host.etc_hosts if wanted.rootfs is None and base is None else _LOCALHOST,
            devices=tuple(name for name in host.devices if name != "fuse" or wanted.nested),
            gids=maps.gids,
            inotify=host.inotify,
            pty=terminal,
            nested=wanted.nested,
            volumes=_volume_steps(wanted, host),
            read_only=wanted.read_only,
            resolv_conf=host.resolv_conf if base is not None else None,
            directories=running.directories(base.image, program.directory) if base is not None else (),
        ),
        barriers=behind,
        limits=limits.decide(wanted, host, identifier),
        runtime=paths.runtime(environment, host.uid),
        warnings=() if wanted.quiet else behind.warnings(wanted.allow_degraded),
        attachments=attachments,
        target=program,
        quiet=wanted.quiet,
        greeting=_greeting(wanted, host, terminal=terminal),
        parent=_parent(wanted, host),
        store=paths.store(environment, host.home),
        record=_record(wanted, identifier, program, base),
        timeout=wanted.timeout,
        home=host.home,
        image=base.directory if base is not None else "",
        drops_groups=_drops_groups(wanted, host, maps),
        guarded=guarded(_volumes(wanted), wanted.shown, host.home),
    )


def _drops_groups(wanted: RunSpec, host: Host, maps: IdMaps) -> bool:
    """Whether the sandbox's processes are to give up supplementary groups, which takes an id map that newgidmap has
    written: user_namespaces(7), "setgroups". Raises SbError where they can't and a file could be opened by one.
    """
    if wanted.supplementary_groups or not host.groups:
        return False
    if maps.helpers is None and wanted.volumes:
        why = "a sandbox without subordinate ids can't give up a group, and a volume's files are opened by it"
        raise SbError("--groups none with --volume", why, "leave one of them out; sb doctor says how to get such ids")
    return maps.helpers is not None


def overlay(wanted: RunSpec, host: Host, base: Base | None, maps: IdMaps) -> Config:
    """What the sandbox's files are made of, but for its own layer: see `with_layer`. Raises SbError."""
    own_uid, own_gid = _own_ids(wanted, host)
    return Config(
        lowers=_lowers(wanted, base),
        hidden=_hidden(wanted, host, base),
        told=tuple(os.fsencode(each.path) for each in _missed(wanted, host, base)),
        replaced=_generated(wanted, host, base),
        hidden_names=tuple(map(os.fsencode, paths.base_names(host.uid))),
        read_only=tuple(map(os.fsencode, outside(_volumes(wanted), wanted.read_only_paths))),
        bytes_max=limits.parse_size(wanted.disk) if wanted.disk else None,
        inodes_max=wanted.inodes or None,
        bytes_kept=0 if wanted.disk else _KEPT_FREE,
        inodes_kept=0 if wanted.inodes else _KEPT_FREE,
        audited=OPERATIONS if wanted.audit else (),
        supplementary_groups=wanted.supplementary_groups,
        own_uid=own_uid,
        own_gid=own_gid,
        own_groups=host.groups if wanted.supplementary_groups else (),
        uids=_extents(maps.uids),
        gids=_extents(maps.gids),
        real_ids=wanted.engine == engines.KERNEL,
    )


def _generated(wanted: RunSpec, host: Host, base: Base | None) -> tuple[bytes, ...]:
    """The files of the host's in place of which sb makes some: see `generated`."""
    return tuple(map(os.fsencode, host.unreadable)) if wanted.rootfs is None and base is None else ()


def _own_ids(wanted: RunSpec, host: Host) -> tuple[int, int]:
    """What the user's own ids are inside."""
    return (host.uid, host.gid) if wanted.userns == spec.KEEP_ID else (0, 0)


def _lowers(wanted: RunSpec, base: Base | None) -> tuple[Lower, ...]:
    """What the sandbox stands on: an image's layers, which never change, or a plain tree that may."""
    if base is None:
        return (Lower(os.fsencode(wanted.rootfs or "/"), layer=False, live=True),)
    return tuple(Lower(os.fsencode(tree), layer=True, live=False) for tree in base.trees)


def hidden_paths(wanted: RunSpec, host: Host) -> tuple[str, ...]:
    """What isn't there inside: sb's own, on the host's view the user's secrets, and what was asked. Raises SbError."""
    return (*_hidden_by_default(wanted, host, secret=wanted.rootfs is None), *wanted.hidden)


def _hidden_by_default(wanted: RunSpec, host: Host, *, secret: bool) -> tuple[str, ...]:
    """The paths of the host that are sb's own, and, if `secret`, those of the user's secrets. Raises SbError."""
    own = paths.own_paths(dict(host.environment), host.uid, host.home)
    theirs = _secrets(wanted, host) if secret else ()
    return (*own, *(each.path for each in theirs))


def _missed(wanted: RunSpec, host: Host, base: Base | None) -> tuple[Secret, ...]:
    """The secrets of which who looks them up is told: they are hidden on the host's view. Raises SbError."""
    if wanted.rootfs is not None or base is not None:
        return ()
    return tuple(secret for secret in _secrets(wanted, host) if secret.missed)


def _secrets(wanted: RunSpec, host: Host) -> tuple[Secret, ...]:
    """The user's secrets that aren't shown. Raises SbError."""
    owner = secrets.Owner(host.home, paths.runtime(dict(host.environment), host.uid), host.uid)
    return secrets.hidden(owner, wanted.shown)


def _volumes(wanted: RunSpec) -> tuple[Volume, ...]:
    return tuple(parse_volume(text, "/") for text in wanted.volumes)


def _volume_steps(wanted: RunSpec, host: Host) -> tuple[Step, ...]:
    volumes, scratches = _volumes(wanted), tuple(map(parse_scratch, wanted.scratches))
    require_apart(volumes, scratches)
    hidden: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    if volumes:
        own = paths.own_paths(dict(host.environment), host.uid, host.home)
        require_others(volumes, own)
        asked = (*(() if wanted.image else wanted.hidden), *hidden_on_host(volumes, wanted.hidden))
        hidden = tuple(dict.fromkeys((*_hidden_by_default(wanted, host, secret=True), *asked)))
    over = without_hidden(read_only_within(volumes, wanted.read_only_paths), hidden)
    steps = volume_steps((*volumes, *over), scratches, hidden, own)
    return with_held(steps, pins(volumes, wanted.read_only_paths))


def _hidden(wanted: RunSpec, host: Host, base: Base | None) -> tuple[bytes, ...]:
    """The paths that the sandbox lacks; those asked for are an image's own if it runs on one."""
    if base is not None:
        return tuple(os.fsencode(tree + path) for tree in base.trees for path in wanted.hidden)
    return tuple(map(os.fsencode, hidden_paths(wanted, host)))


def _greeting(wanted: RunSpec, host: Host, *, terminal: bool) -> str:
    """What is said at the start: to whoever sits at the terminal, or asked for it."""
    return greeting(wanted, host) if wanted.verbose or (terminal and not wanted.quiet and not wanted.detach) else ""


def _parent(wanted: RunSpec, host: Host) -> int:
    """The process with whose end the sandbox ends, 0 for none."""
    if wanted.detach or signal.SIGHUP in host.ignored_signals or host.parent <= 1:
        return 0
    return host.parent


def _record(wanted: RunSpec, identifier: str, program: Target, base: Base | None) -> State:
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
        image=base.image.identifier if base is not None else "",
        stop_signal=running.stop_signal(base.image.stop_signal) if base is not None else signal.SIGTERM,
    )


def with_layer(plan: Plan, directory: str) -> Plan:
    """The plan once the sandbox's directory is known."""
    upper, work = (os.fsencode(f"{directory}/{part}") for part in ("upper", "work"))
    overlay = with_generated(plan.overlay, directory) if plan.overlay.replaced else plan.overlay
    return plan._replace(
        overlay=overlay._replace(upper=upper, work=work),
        with_one_id=with_layer(plan.with_one_id, directory) if plan.with_one_id else None,
    )


def with_generated(overlay: Config, directory: str) -> Config:
    """What a sandbox's files are made of, with those that sb has made for it in its directory: see `generated`."""
    made = Lower(os.fsencode(f"{directory}/{GENERATED}"), layer=True, live=False)
    return overlay._replace(lowers=(*overlay.lowers, made))


def again(plan: Plan, known: State, directory: str, program: Target) -> Plan:
    """The plan to start a sandbox that is there: in its `directory`, with what is known of it."""
    return plan._replace(
        identifier=known.identifier,
        existing=directory,
        record=known,
        target=program,
        with_one_id=again(plan.with_one_id, known, directory, program) if plan.with_one_id else None,
    )


def limited(plan: Plan, grouped: Sequence[str], own: Sequence[str]) -> tuple[Held, ...]:
    """All limits of a sandbox and what holds them: a control group, pid 1, or what can always be had. (The kernel's
    overlay limits no files.)
    """
    overlay = plan.overlay
    files = [("disk", overlay.bytes_max, overlay.bytes_kept), ("inodes", overlay.inodes_max, overlay.inodes_kept)]
    of_files = [
        Held(name, f"{kept}% free" if most is None else str(most), (OVERLAY,))
        for name, most, kept in files
        if plan.engine == engines.FUSE
    ]
    timeout = (Held("timeout", f"{plan.timeout:g}", (SUPERVISOR,)),) if plan.timeout else ()
    return (*limits.held(plan.limits, grouped, own), *of_files, *timeout)


def _host_name(wanted: RunSpec, host: Host, identifier: str) -> str:
    """The name of the machine that the sandbox takes itself for."""
    return host.name if wanted.uts == spec.HOST else wanted.hostname or identifier


def namespaces(wanted: RunSpec) -> tuple[str, ...]:
    """The namespaces to make besides A and B, without those that the caller can do without. Raises SbError for a name
    of none that can be given up, and for one of a namespace that isn't made.
    """
    if wanted.uts == spec.HOST and wanted.hostname:
        raise SbError("--hostname and --uts host", "the host keeps its name", "leave one of them out; or --uts private")
    given_up = wanted.allow_degraded
    degradable = [name for name, requirement in REQUIREMENTS.items() if requirement.degradable]
    for name in given_up:
        if name not in degradable:
            choices = ", ".join(degradable)
            raise SbError(f"--allow-degraded {name}", "not a check that can be given up", f"one of {choices}")
    shared = ("uts",) if wanted.uts == spec.HOST else ()
    return tuple(name for name in KINDS if name not in (*given_up, *shared))


def greeting(wanted: RunSpec, host: Host) -> str:
    """What a person at a terminal is told at the start: what is shut; with --verbose also what is withheld."""
    shut = [] if "net" in wanted.allow_degraded else ["no network"]
    if wanted.hidden:
        shut.append(f"hidden: {', '.join(wanted.hidden)}")
    if held := [volume.target for volume in _volumes(wanted) if not volume.read_only]:
        shut.append(f"what runs by itself (git hooks, rc files) is held in {', '.join(held)} unless --show names it")
    if wanted.verbose and not (wanted.rootfs or wanted.image or wanted.clear_environment):
        given = [name for name, _ in wanted.environment]
        kept_back = [name for name in variables.withheld(dict(host.environment)) if name not in given]
        shut += [f"variables withheld: {', '.join(kept_back)}"] if kept_back else []
    return "; ".join((*shut, "changes are kept" if wanted.keep else "changes are thrown away at the end"))


def _extents(lines: tuple[MapLine, ...]) -> tuple[Extent, ...]:
    return tuple(Extent(line.inside, line.size, line.outside) for line in lines)


def _image_target(
    wanted: RunSpec, host: Host, base: Base, identifier: str, *, terminal: bool, one_id: bool
) -> Target:
    """The program of an image. Its user can't be had where there is one id alone: root is all that there is then."""
    image = base.image
    user = wanted.user or ("" if one_id or wanted.userns == spec.KEEP_ID else image.user)
    term = dict(host.environment).get("TERM", "xterm") if terminal else ""
    environment = running.environment(image, hostname=_host_name(wanted, host, identifier), terminal=term, user=user)
    environment = _as_asked(wanted, environment)
    directory = wanted.workdir or image.directory or "/"
    if not directory.startswith("/"):
        directory = f"/{directory}"
    command = running.command(image, wanted.command, wanted.entrypoint)
    return Target(command, tuple(environment.items()), directory, 0o022, host.ignored_signals, user)


def target(wanted: RunSpec, host: Host) -> Target:
    """The program, its environment and its working directory. Raises SbError."""
    environment = target_environment(wanted, host)
    directory = wanted.workdir or ("/" if wanted.rootfs else host.directory)
    if directory is None:
        raise SbError("cannot find the working directory", "it was removed", "cd elsewhere, or name one with -w DIR")
    if not directory.startswith("/"):
        raise SbError(f"--workdir {directory}", "not an absolute path", f"sb run -w {os.path.abspath(directory)} …")
    entrypoint = (wanted.entrypoint,) if wanted.entrypoint else ()
    shell = (wanted.rootfs is None and environment.get("SHELL")) or "/bin/sh"
    command = (*entrypoint, *wanted.command) or (shell,)
    return Target(command, tuple(environment.items()), directory, host.umask, host.ignored_signals, wanted.user)


def target_environment(wanted: RunSpec, host: Host) -> dict[str, str]:
    """The target's variables: the caller's on the host's view but for secrets, few over a root file system, then what
    was asked.
    """
    environment = {name: value for name, value in host.environment if not variables.is_withheld(name)}
    if wanted.rootfs is not None:
        environment = {"PATH": running.PATH, "HOME": "/root"}
        if term := dict(host.environment).get("TERM"):
            environment["TERM"] = term
    if wanted.user:
        environment = without_own(environment)
    return _as_asked(wanted, environment)


def _as_asked(wanted: RunSpec, environment: dict[str, str]) -> dict[str, str]:
    """The variables after what was asked of them: cleared, left out, set."""
    if wanted.clear_environment:
        environment = {}
    for name in wanted.unset_environment:
        environment.pop(name, None)
    environment.update(wanted.environment)
    return environment
