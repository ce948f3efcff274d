"""The watcher: makes the namespaces, mounts the overlay, forks pid 1, and stays to clean up whatever happens.

It lives in user namespace A and a mount namespace of its own, in which it still sees the host's tree. It may therefore
remove files of all subordinate ids, and it is there when the supervisor no longer is.
"""

from __future__ import annotations

import os
import signal
import stat
import time
from typing import TYPE_CHECKING

from fuse_overlay.config import pack
from fuse_overlay.tuples import NamedTuple
from rootless_sb import ending, engines, faults, init, leftovers, phases, protocol, relay, sandboxes, turns, vigil
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import channel, descriptors, mounts, namespaces, processes, trees
from rootless_sb.kernel.signals import SignalPipe
from rootless_sb.maps import map_text
from rootless_sb.plan import with_layer
from rootless_sb.requirements import Lacking, hint
from rootless_sb.volumes import parse_volume, with_held

if TYPE_CHECKING:
    from rootless_sb.control_group import ControlGroup
    from rootless_sb.kernel.channel import Channel
    from rootless_sb.placeholders import Placeholders
    from rootless_sb.plan import Plan
    from rootless_sb.prepared import Prepared
    from rootless_sb.relay import Standard
    from rootless_sb.sandboxes import Sandbox


class Links(NamedTuple):
    """The watcher's ends of the channels, and pid 1's, which it only hands on. `server`: None if the kernel serves."""

    supervisor: Channel
    server: Channel | None
    init: Channel


def watch(
    plan: Plan, links: Links, standard: Standard, audit: tuple[int, ...], prepared: Prepared | None
) -> int:
    """The watcher's life. Returns its exit status. `audit`: where the server is to write records, if it is;
    `prepared`: namespaces that are there already.
    """
    os.setsid()
    os.umask(0o022)  # the caller's is for what its command makes
    phases.forked()
    processes.set_title("sb-watch")
    events = SignalPipe((signal.SIGCHLD,))
    try:
        # Made by who removes it: a supervisor that is killed leaves nothing.
        sandbox = _place(plan)
    except SbError as error:
        links.supervisor.try_send(protocol.failed(error))
        return error.status
    phases.mark(phases.DIRECTORY)
    links.supervisor.try_send(protocol.encode(protocol.PLACED), (sandbox.own, sandbox.lock))
    kept = bool(plan.existing)
    taken: Placeholders | None = None
    try:
        taken = _placeholders(plan)
        if replaced := plan.overlay.replaced:
            from rootless_sb import generated

            with Doing("cannot make files for the sandbox"):
                generated.make(sandbox.own, tuple(map(os.fsdecode, replaced)))
        with Doing("cannot listen for other commands"):
            control = channel.listen(sandbox.own, "control")
        gate, pid1s = channel.pair()
        mark = turns.new_mark()
        ends = init.Ends(links.init, pid1s, control, mark, standard)
        pid = _start(with_layer(plan, sandbox.directory), sandbox, links, ends, audit, taken, prepared)
        for end in (control, links.init, pid1s):
            end.close()
        relay.release(standard)
        group = _place_in_group(plan, pid, gate)
        descriptors.shut((0, 1), descriptors.open_null())  # their other ends are to see the sandbox's end, not ours
        waiting = vigil.Vigil(pid, events, links.supervisor, links.server, own_ipc="ipc" in plan.namespaces)
        held = group.held if group is not None else ()
        memory = 0 if "memory" in held else plan.limits.memory
        running = 0 if "running" in held else plan.limits.running
        wait_status = waiting.wait(vigil.Bounds(ending.backstop(plan.timeout), memory, running, mark))
        if group is not None:
            _leave_group(group, links.supervisor, killed=os.WIFSIGNALED(wait_status))
        # What a command does once its files are gone, and what status that gives it, says nothing: tell it apart.
        server_ended = not mounts.is_connected(f"{sandbox.directory}/root")
        kept = True  # should that fail: then the supervisor decides, or who sweeps
        kept = _settle(plan, sandbox, never_ran=os.WIFEXITED(wait_status) and os.WEXITSTATUS(wait_status) != 0)
        links.supervisor.try_send(protocol.encode(protocol.GONE, wait_status, int(server_ended), int(kept)))
    except SbError as error:
        links.init.close()
        links.supervisor.try_send(protocol.failed(error))
    return _clean_up(plan, sandbox, links, taken, kept=kept)


def _place(plan: Plan) -> Sandbox:
    """The sandbox's directory, new or there already, locked. Raises SbError."""
    if not plan.existing:
        record = plan.record._replace(created=int(time.time()))
        return sandboxes.create(record, plan.places, plan.store, plan.uid)
    with Doing(f"cannot open {plan.existing}"):
        sandbox = sandboxes.take(plan.existing, sandboxes.PATIENCE)
    if sandbox is None:
        name = plan.record.name or plan.identifier
        with Doing(f"cannot start {name}"):
            raise SbError(f"cannot start {name}", sandboxes.holder(plan.existing), f"sb exec {name} …")
    return sandbox


def _settle(plan: Plan, sandbox: Sandbox, *, never_ran: bool) -> bool:
    """Whether the layer is kept: not that of a new sandbox whose command couldn't be run. Raises SbError."""
    with Doing("cannot decide whether the sandbox is kept"):
        return sandboxes.settle(sandbox, discard=never_ran and not plan.existing)


def _placeholders(plan: Plan) -> Placeholders | None:
    """What keeps names in volumes from being made, for a run that has any. Raises SbError."""
    if not plan.guarded:
        return None
    from rootless_sb import placeholders

    with Doing("cannot note what is guarded in volumes"):
        return placeholders.Placeholders(plan.identifier, plan.uid)


def _clean_up(
    plan: Plan, sandbox: Sandbox, links: Links, taken: Placeholders | None, *, kept: bool
) -> int:
    """Unmount, wait for the server's end and remove the layer unless it is kept; returns the exit status."""
    try:
        with Doing("cannot unmount the overlay"):
            mounts.detach_if_mounted(f"{sandbox.directory}/root")
        faults.point("unmounted")
        if taken is not None:
            with Doing("cannot remove what kept names in volumes from being made"):
                taken.clear()
        if links.server is not None:
            links.server.wait_for_end()
        if not kept:
            with Doing(f"cannot remove {sandbox.directory}"):
                ours = _files_for_volumes(plan, sandbox)
                removed = sandboxes.remove(sandbox, plan.uid)
            links.supervisor.try_send(protocol.encode(protocol.REMOVED, removed.files - ours, removed.bytes))
        leftovers.sweep((*plan.places, plan.store), plan.uid)
    except SbError as error:
        links.supervisor.try_send(protocol.failed(error))
        return error.status
    return 0


def _files_for_volumes(plan: Plan, sandbox: Sandbox) -> int:
    """How many files of the layer were made for a volume to be mounted on: nobody's changes.

    Whoever was inside may have put symbolic links there: they lead nowhere but to the layer, and are only counted.
    """
    files = 0
    for text in plan.record.wanted.volumes:
        try:
            st = _lstat_in(f"{sandbox.directory}/upper", parse_volume(text, "/").target)
        except OSError:  # nothing is there, or what sb hasn't made
            continue
        files += stat.S_ISREG(st.st_mode) and not st.st_size
    return files


def _lstat_in(root: str, path: str) -> os.stat_result:
    """What is at a path beneath `root`, also if links say otherwise. Raises OSError."""
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = mounts.open_in_root(top, path, follow=False)
    finally:
        os.close(top)
    try:
        return os.fstat(found)
    finally:
        os.close(found)


def _start(
    plan: Plan,
    sandbox: Sandbox,
    links: Links,
    ends: init.Ends,
    audit: tuple[int, ...],
    taken: Placeholders | None,
    prepared: Prepared | None,
) -> int:
    """Everything up to a running pid 1, whose pid is returned. Raises SbError."""
    plan = _enter_namespaces(plan, links.supervisor, prepared)
    phases.mark(phases.NAMESPACES)
    if links.server is not None:
        _mount_overlay(plan, sandbox, links.server, audit)
    else:
        _mount_kernels_overlay(plan, sandbox)
    phases.mark(phases.MOUNT)
    if taken is not None:
        from rootless_sb import holding

        plan = plan._replace(steps=with_held(plan.steps, holding.hold(plan.guarded, taken)))
    ours = (ends.supervisor.fileno(), ends.group.fileno(), ends.control.fileno(), ends.mark)
    keep = {*ours, *relay.opened(ends.standard)}
    with Doing("cannot start pid 1"):
        pid = processes.fork(lambda: init.run(plan, sandbox.directory, ends), keep)
    links.supervisor.try_send(protocol.encode(protocol.PHASES, phases.own()))
    links.supervisor.try_send(protocol.encode(protocol.RUNNING, pid))
    return pid


def _place_in_group(plan: Plan, pid: int, gate: Channel) -> ControlGroup | None:
    """Put pid 1 into a control group with the sandbox's limits, if one can be had, and tell it: it waits for that."""
    from rootless_sb import control_group  # here, while the server still starts, and not where somebody waits

    group = control_group.place(pid, plan.identifier, plan.limits, (plan.uid, plan.runtime))
    gate.try_send(protocol.encode(protocol.GROUPED, ",".join(group.held if group is not None else ())))
    gate.close()
    return group


def _leave_group(group: ControlGroup, supervisor: Channel, *, killed: bool) -> None:
    """All in it have ended, pid 1 with the others if it was `killed`: say if for want of memory, and remove it."""
    if killed and group.ended_for_memory():
        supervisor.try_send(protocol.encode(protocol.EXCEEDED, protocol.MEMORY))
    group.remove()


def _enter_namespaces(plan: Plan, supervisor: Channel, prepared: Prepared | None) -> Plan:
    """Make A and the others, or enter what is there already; the plan in force is returned. Raises SbError."""
    entered: tuple[str, ...] = ()
    if prepared is not None and prepared.suit(plan.id_maps):
        with Lacking("user"):
            entered = prepared.enter(plan.namespaces)
    else:
        plan = _make_first_namespace(plan, supervisor)
    if prepared is not None:
        prepared.close()
    for name in plan.namespaces:
        if name not in (init.OWN, *entered):
            with Lacking(name):
                namespaces.unshare(namespaces.KINDS[name])
    with Lacking("mounts"):
        # Slave, not private: what the host unmounts isn't kept busy by us for as long as the sandbox lives.
        mounts.mount(None, "/", None, mounts.REC | mounts.SLAVE)
    return plan


def _make_first_namespace(plan: Plan, supervisor: Channel) -> Plan:
    """Make A; the plan in force is returned (other if the id map helpers refuse). Raises SbError."""
    with Lacking("user"):
        namespaces.unshare(namespaces.NEWUSER)
    if plan.id_maps.helpers:
        supervisor.try_send(protocol.encode(protocol.UNSHARED))
        answer, _ = supervisor.receive()
        if answer != protocol.encode(protocol.MAPPED):
            if plan.with_one_id is None:
                raise SbError("cannot do this with one id alone", "the subordinate ids were refused", "sb doctor")
            plan = plan.with_one_id
    if not plan.id_maps.helpers:
        with Doing("cannot map the user to root", hint("user")):
            _map_single_id(plan)
    return plan


def _map_single_id(plan: Plan) -> None:
    own = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        namespaces.write_id_map(own, "uid_map", map_text(plan.id_maps.uids))
        if not namespaces.has_id_map(own, "gid_map"):  # newgidmap may have written it before newuidmap refused
            # A group can only be mapped without privilege once setgroups(2) is given up: user_namespaces(7).
            namespaces.write_id_map(own, "setgroups", "deny")
            namespaces.write_id_map(own, "gid_map", map_text(plan.id_maps.gids))
    finally:
        os.close(own)


def _mount_overlay(plan: Plan, sandbox: Sandbox, server: Channel, audit: tuple[int, ...]) -> None:
    """Mount /dev/fuse and give it to the server, which may only read it once it is mounted; no copy stays here."""
    with Lacking("fuse"):
        fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        with Doing("cannot mount the overlay", hint("mounts")):
            mounts.mount("sb", f"{sandbox.directory}/root", "fuse", mounts.NODEV, f"fd={fuse},{plan.mount_options}")
        with Doing("cannot reach the overlay server"):
            server.send_long(pack(plan.overlay), fuse, *audit)
    finally:
        for descriptor in (fuse, *audit):
            os.close(descriptor)


def _mount_kernels_overlay(plan: Plan, sandbox: Sandbox) -> None:
    """Mount the kernel's overlayfs over the same layers, each named by a descriptor of its. Raises SbError."""
    layers = plan.overlay
    paths = [lower.path for lower in layers.lowers]
    if plan.image:
        paths.insert(0, _restored(plan, sandbox))
    opened: list[int] = []
    try:
        for path in (*paths, layers.upper, layers.work):
            assert path is not None
            with Doing(f"cannot open {os.fsdecode(path)}"):
                opened.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        *lowers, upper, work = (f"/proc/self/fd/{descriptor}" for descriptor in opened)
        with Doing("cannot mount the kernel's overlay", engines.HINT):
            options = engines.mount_options(tuple(lowers), upper, work)
            mounts.mount("sb", f"{sandbox.directory}/root", "overlay", mounts.NODEV, options)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _restored(plan: Plan, sandbox: Sandbox) -> bytes:
    """The layer that makes of an image's records what the kernel can show. Raises SbError."""
    from fuse_overlay.errors import OverlayError
    from rootless_sb.image import restoring

    place = f"{sandbox.directory}/{sandboxes.RESTORED}"
    with Doing("cannot give the image's files their owners", engines.HINT):
        trees.remove_if_there(sandbox.own, sandboxes.RESTORED)
        os.mkdir(place, 0o755)
        try:
            restoring.restore(plan.overlay._replace(upper=None, work=None, real_ids=False), place, engines.HINT)
        except OverlayError as error:
            raise SbError("cannot give the image's files their owners", str(error), engines.HINT) from None
    return os.fsencode(place)
