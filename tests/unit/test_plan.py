"""From what was asked to what will be done: the plan is data, so it is compared as data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fuse_overlay.config import Extent, Lower
from rootless_sb import paths, stdio
from rootless_sb.errors import SbError
from rootless_sb.kernel.descriptors import (
    BOTH,
    DIRECTORY,
    FILE,
    NAMELESS,
    NEITHER,
    NULL,
    OTHER,
    PIPE,
    READ,
    TERMINAL,
    WRITE,
    Descriptor,
)
from rootless_sb.plan import make_plan, with_layer
from rootless_sb.root import hosts_file
from rootless_sb.spec import RunSpec
from rootless_sb.steps import Attach, MountAt, OpenTerminal, PivotRoot, SetHostname, WriteFile, WriteSetting
from rootless_sb.ui import plans
from tests.unit.hosts import HOST

if TYPE_CHECKING:
    from rootless_sb.host import Host

TERMINALS = tuple(Descriptor(number, TERMINAL, 0) for number in range(3))
LOGS = (Descriptor(1, FILE, 1), Descriptor(2, FILE, 1))
PIPES = tuple(Descriptor(number, PIPE, number) for number in range(3))


def test_hosts_view() -> None:
    """Without a root file system the lower layer is `/`, live, and no whiteout in it means anything."""
    plan = make_plan(RunSpec(), HOST, PIPES, "0123456789ab")
    assert (Lower(b"/", layer=False, live=True),) == plan.overlay.lowers
    assert (Extent(0, 1, 1000), Extent(1, 65536, 100000)) == plan.overlay.uids
    assert (0, 0) == (plan.overlay.own_uid, plan.overlay.own_gid)
    assert ("/home/ann/work", 0o027, ("/bin/zsh",)) == (
        plan.target.directory,
        plan.target.umask,
        plan.target.arguments,
    )
    assert HOST.environment == plan.target.environment


def test_root_file_system_starts_with_few_variables() -> None:
    """Over --rootfs nothing of the caller's environment but TERM is passed on."""
    plan = make_plan(RunSpec(rootfs="/srv/tree"), HOST, PIPES, "0123456789ab")
    assert {"PATH", "HOME", "TERM"} == set(dict(plan.target.environment))
    assert ("/", ("/bin/sh",)) == (plan.target.directory, plan.target.arguments)
    assert b"/srv/tree" == plan.overlay.lowers[0].path


def test_environment_options() -> None:
    """What is unset goes, what is set comes last; --clearenv leaves only that."""
    wanted = RunSpec(unset_environment=("TERM",), environment=(("A", "1"),))
    assert ["HOME", "SHELL", "TMPDIR", "A"] == [
        name for name, _ in make_plan(wanted, HOST, PIPES, "x").target.environment
    ]
    cleared = make_plan(wanted._replace(clear_environment=True), HOST, PIPES, "x")
    assert (("A", "1"),) == cleared.target.environment


def test_layers_never_lie_in_a_home() -> None:
    """The layer's place is the batch system's directory, TMPDIR or /var/tmp, in this order."""
    assert ("/scratch", "/var/tmp", "/tmp") == paths.layer_places(dict(HOST.environment))
    slurm = {"SLURM_TMPDIR": "/local/job7", "TMPDIR": "relative"}
    assert ("/local/job7", "/var/tmp", "/tmp") == paths.layer_places(slurm)


def test_everything_of_sbs_own_is_hidden() -> None:
    """State, store, sockets and the directories of all layers are hidden on top of what was asked."""
    hidden = make_plan(RunSpec(hidden=("/srv/secret",)), HOST, PIPES, "x").overlay.hidden
    expected = {b"/home/ann/.local/share/sb", b"/home/ann/.cache/sb", b"/run/user/1000/sb", b"/scratch/sb-1000"}
    assert expected | {b"/srv/secret", b"/var/tmp/sb-1000"} <= set(hidden)


def test_order_of_the_steps() -> None:
    """All that needs the overlay, which is still starting, comes after all that doesn't; the pivot is last."""
    steps = make_plan(RunSpec(), HOST, TERMINALS, "0123456789ab").steps
    kinds = [type(step) for step in steps]
    assert PivotRoot == kinds[-1]
    assert kinds.index(OpenTerminal) < kinds.index(Attach)
    assert SetHostname("0123456789ab") in steps
    assert WriteSetting("proc/sys/net/ipv4/ping_group_range", "0 65536") in steps


def test_tty_group_only_where_it_is_mapped() -> None:
    """devpts takes gid=5 only where group 5 exists inside."""

    def devpts(host: Host) -> str:
        steps = make_plan(RunSpec(), host, PIPES, "x").steps
        return next(step.options for step in steps if isinstance(step, MountAt) and step.kind == "devpts")

    assert "gid=5" in devpts(HOST)
    assert "gid=5" not in devpts(HOST._replace(subordinate_gids=()))


def test_a_plan_without_subordinate_ids_is_at_hand() -> None:
    """Should the helpers refuse, the same run with one id is planned already, with the same layer."""
    plan = with_layer(make_plan(RunSpec(), HOST, PIPES, "x"), "/scratch/sb-1000/x")
    assert plan.with_one_id is not None
    assert None is plan.with_one_id.id_maps.helpers
    assert (Extent(0, 1, 1000),) == plan.with_one_id.overlay.uids
    assert b"/scratch/sb-1000/x/upper" == plan.with_one_id.overlay.upper == plan.overlay.upper


def test_a_removed_working_directory_is_an_error() -> None:
    """The error says what to do."""
    with pytest.raises(SbError) as caught:
        make_plan(RunSpec(), HOST._replace(directory=None), PIPES, "x")
    assert "-w DIR" in caught.value.hint


def test_the_sandboxs_name_resolves() -> None:
    """The host's table gets one line more, on a line of its own."""
    assert b"127.0.0.1 localhost\n127.0.1.1\tbox\n" == hosts_file(b"127.0.0.1 localhost", "box")


def test_the_hosts_name() -> None:
    """--uts host: no namespace is made for a name, and nothing sets one; it is the host's that is written down."""
    plan = make_plan(RunSpec(uts="host"), HOST, PIPES, "x")
    assert "uts" not in plan.namespaces
    assert not [step for step in plan.steps if isinstance(step, SetHostname)]
    assert WriteFile("hostname", b"desk\n") in plan.steps
    with pytest.raises(SbError, match="--hostname and --uts host"):
        make_plan(RunSpec(uts="host", hostname="box"), HOST, PIPES, "x")


@pytest.mark.parametrize(
    ("outside", "tty", "interactive", "expected"),
    [
        (TERMINALS, None, False, "pty 0, pty 1, pty 2"),
        (TERMINALS, False, False, "shut -1, copy 0, copy 0"),
        (PIPES, None, False, "pass 0, pass 1, pass 2"),
        ((Descriptor(0, NULL, 0), *LOGS), None, False, "pass 0, copy 1, copy 1"),
        ((TERMINALS[0], *PIPES[1:]), None, False, "shut -1, pass 1, pass 2"),
        ((TERMINALS[0], *PIPES[1:]), None, True, "copy 0, pass 1, pass 2"),
        ((*TERMINALS[:2], PIPES[2]), None, False, "pty 0, pty 1, pass 2"),
        ((Descriptor(0, FILE, 0), *TERMINALS[1:]), None, False, "copy 0, copy 0, copy 0"),
        ((), None, False, "shut -1, shut -1, shut -1"),
    ],
)
def test_standard_descriptors(
    outside: tuple[Descriptor, ...], tty: bool | None, interactive: bool, expected: str
) -> None:
    """A terminal and a regular file never go inside; pipes and /dev/null do; what was shared outside is inside."""
    found = stdio.attachments(outside, tty, interactive)
    assert expected == ", ".join(f"{each.kind} {each.outside}" for each in found)


@pytest.mark.parametrize(
    ("kind", "access", "expected"),
    [
        (PIPE, BOTH, "pass 7 False"),
        (NULL, BOTH, "pass 7 False"),
        (FILE, READ, "copy 5 True"),
        (FILE, WRITE, "copy 5 False"),
        (OTHER, READ, "copy 5 True"),
        (FILE, BOTH, ""),
        (FILE, NEITHER, ""),
        (NULL, NEITHER, ""),
        (DIRECTORY, READ, ""),
        (TERMINAL, BOTH, ""),
        (NAMELESS, BOTH, ""),
    ],
)
def test_preserved_descriptors(kind: str, access: str, expected: str) -> None:
    """Files go through a pipe, which those that are one outside share; what leads out of the sandbox is refused."""
    preserved = Descriptor(7, kind, 5, access)
    if not expected:
        with pytest.raises(SbError, match="--preserve-fd 7"):
            stdio.attachments((*PIPES, preserved), None, interactive=False)
        return
    found = stdio.attachments((*PIPES, preserved), None, interactive=False)
    assert ([0, 1, 2, 7], expected) == (
        [each.inside for each in found],
        f"{found[3].kind} {found[3].outside} {found[3].incoming}",
    )
    assert {5 if found[3].kind == stdio.COPY else 7} == stdio.preserved(found)


def test_preserved_in_the_background() -> None:
    """What shares its file with stdout, which is a log there, has it for itself, or with others that are preserved."""
    descriptors = (*LOGS, Descriptor(3, FILE, 1, WRITE), Descriptor(4, FILE, 1, WRITE), Descriptor(5, FILE, 5, WRITE))
    found = stdio.detached(descriptors, tty=False)
    assert [-1, 1, 1, 3, 3, 5] == [each.outside for each in found]


def test_dry_run_is_json() -> None:
    """The plan is one JSON document with a schema, each step named."""
    document = json.loads(plans.as_json(make_plan(RunSpec(), HOST, TERMINALS, "0123456789ab")))
    assert 1 == document["schema"]
    assert {"step": "PivotRoot"} == document["plan"]["steps"][-1]
    assert "/" == document["plan"]["overlay"]["lowers"][0]["path"]


def test_what_is_held_in_volumes_is_said() -> None:
    """At a terminal, of those that can be written to: who runs git init there knows why it fails."""
    volumes = RunSpec(volumes=("/a:/a:rw", "/b:/c:ro"))
    plan = make_plan(volumes, HOST, TERMINALS, "x")
    assert "is held in /a unless --show names it" in plan.greeting
    assert ["/a"] == [each.source for each in plan.guarded]
    assert "held" not in make_plan(RunSpec(), HOST, TERMINALS, "x").greeting
    assert "guarded   /a\n" in plans.as_text(plan)


def test_no_groups() -> None:
    """pid 1 gives up supplementary groups where the map lets it; else a volume is refused, with the fallback too."""
    host = HOST._replace(groups=(7, 8))
    without = RunSpec(supplementary_groups=False)
    plan = make_plan(without, host, PIPES, "x")
    assert (True, False, ()) == (plan.drops_groups, plan.overlay.supplementary_groups, plan.overlay.own_groups)
    assert plan.with_one_id is not None
    assert not plan.with_one_id.drops_groups
    kept = make_plan(RunSpec(), host, PIPES, "x")
    assert (False, True, (7, 8)) == (kept.drops_groups, kept.overlay.supplementary_groups, kept.overlay.own_groups)
    bound = without._replace(volumes=("/a:/a:rw",))
    assert None is make_plan(bound, host, PIPES, "x").with_one_id
    with pytest.raises(SbError):
        make_plan(bound, host._replace(newuidmap=None), PIPES, "x")
    assert not make_plan(bound, HOST._replace(newuidmap=None), PIPES, "x").drops_groups  # who has none has none to lose


def test_generated_files_lie_below_the_hosts() -> None:
    """On the host's view, where there are some that can't be read; not over a root file system."""
    plan = with_layer(make_plan(RunSpec(), HOST, PIPES, "x"), "/d/x")
    assert [b"/", b"/d/x/generated"] == [lower.path for lower in plan.overlay.lowers]
    assert (b"/etc/shadow", b"/etc/gshadow") == plan.overlay.replaced
    readable = HOST._replace(unreadable=())
    for other in (make_plan(RunSpec(rootfs="/r"), HOST, PIPES, "x"), make_plan(RunSpec(), readable, PIPES, "x")):
        assert (1, ()) == (len(with_layer(other, "/d/x").overlay.lowers), other.overlay.replaced)
