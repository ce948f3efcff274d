"""`sb run`: from the command line to a RunSpec, and off it goes."""

from __future__ import annotations

import functools
import os
import stat
import sys
from typing import TYPE_CHECKING

from rootless_sb import overlay_server, phases
from rootless_sb.errors import EXIT_NOT_FOUND, Doing, SbError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from rootless_sb import spec
    from rootless_sb.agent.worker import Accepted
    from rootless_sb.cli.parsing import Parser
    from rootless_sb.image.running import Base
    from rootless_sb.overlay_server import OverlayServer
    from rootless_sb.plan import Plan
    from rootless_sb.prepared import Prepared
    from rootless_sb.status_stream import StatusStream

_DESCRIPTION = """\
Run a command as root of a sandbox of its own. Without --image or --rootfs it sees this machine, and what it changes
goes into a layer that is thrown away at the end. COMMAND is the image's, or your shell, when it isn't given."""
_SETTINGS = """\
Each option can be set for good: SB_TIMEOUT=5m in the environment, or timeout = "5m" below [run] or [profile.NAME]
in ~/.config/sb/config.toml or /etc/sb/config.toml. The nearest to the command line has the last word."""


def main(arguments: list[str], caller: Accepted | None = None) -> int:
    """Run the command line after `sb run`; returns the exit status. Raises SbError.

    `caller`: whom this process, forked by the agent, runs it for. Raises ColdError if they want no agent.
    """
    server = overlay_server.start()  # first of all: importing what it needs takes longer than all that follows here
    try:
        from rootless_sb.status_stream import StatusStream

        parsed = parse(parser(), arguments)
        status = StatusStream(parsed.status_fd)
        with status:
            if caller is not None:
                caller.agree(wanted=parsed.agent)
            wanted = run_spec(parsed)
            phases.mark(phases.OPTIONS)
            decided = decide(parsed, wanted, caller.parent if caller is not None else 0)
        if parsed.agent and caller is None and decided is not None:
            from rootless_sb.agent import launching

            launching.launch()  # for the next one
        prepared = caller.prepared if caller is not None else None
        return _carry_out(decided, server, status, prepared) if decided is not None else 0
    finally:
        server.stop()


def parse(options: Parser, arguments: list[str]) -> argparse.Namespace:
    """The options: the caller's, and before them what the environment and the configuration say. Raises SbError."""
    from rootless_sb import settings

    parsed = options.parse_strictly(arguments)
    environment = dict(os.environ)
    documents = settings.load(environment, settings.home(environment))
    profile = parsed.profile or environment.get("SB_PROFILE", "")
    if not documents and not profile and not any(name.startswith("SB_") for name in environment):
        return parsed
    from rootless_sb.cli import defaults

    known = defaults.known_options(options)
    sources = defaults.from_documents(documents, profile)
    if variables := defaults.from_environment(environment, known):
        sources.append(variables)
    given = [name for name in ("keep", "rm") if getattr(parsed, name)]
    return options.parse_strictly([*defaults.words(sources, known, given), *arguments])


def _carry_out(decided: Plan, server: OverlayServer, status: StatusStream, prepared: Prepared | None) -> int:
    if decided.record.wanted.detach:
        from rootless_sb import background

        server.stop()  # it dies with this process; the one in the background starts its own
        return background.run(decided, status)
    from rootless_sb import supervisor

    try:
        with status:
            return supervisor.run(decided, server, status, prepared=prepared)
    except SbError as error:
        if error.status == EXIT_NOT_FOUND:
            _hint_at_image(error, decided.record.wanted)
        raise


def _hint_at_image(error: SbError, wanted: spec.RunSpec) -> None:
    """Tell who has written `sb run ubuntu:latest` how that is written."""
    from rootless_sb.image import reference

    if not wanted.image and not wanted.rootfs and reference.looks_like_one(wanted.command[0]):
        error.hint = f"sb run --image {' '.join(wanted.command)}"


def decide(parsed: argparse.Namespace, wanted: spec.RunSpec, parent: int = 0) -> Plan | None:
    """The plan for what is wanted; None when only its print was. Raises SbError.

    `parent`: the process that called sb, if that isn't this one's.
    """
    from rootless_sb import host, plan, sandboxes
    from rootless_sb.cli import options
    from rootless_sb.ui import messages

    machine = host.probe(parent)
    phases.mark(phases.HOST)
    decided = plan.make_plan(wanted, machine, options.descriptors(parsed), sandboxes.new_id(), _base(parsed))
    phases.mark(phases.PLAN)
    if parsed.dry_run:
        from rootless_sb.ui import plans

        sys.stdout.write(plans.as_json(decided) if parsed.json else plans.as_text(decided))
        return None
    if machine.uid == 0 and not wanted.quiet:
        messages.warn("you are root already: the sandbox is weaker than one started by an ordinary user")
    return decided


def _base(parsed: argparse.Namespace) -> Base | None:
    """The image's layers to run on, if an image was asked for; it is pulled if need be. Raises SbError."""
    if not parsed.image:
        for name in ("pull", "platform"):
            if getattr(parsed, name):
                raise SbError(f"--{name}", "there is no --image that it could be for", "sb run --image NAME")
        return None
    if parsed.rootfs:
        raise SbError("--image and --rootfs", "they exclude each other", "the image, or a directory")
    from rootless_sb.image import basing

    when = basing.NEVER if parsed.dry_run else parsed.pull or basing.MISSING
    return basing.base(parsed.image, when, parsed.platform, quiet=parsed.quiet)


@functools.cache
def parser(
    command: str = "run", description: str = _DESCRIPTION, example: str = "sb run -w /tmp -e LANG=C make -j2"
) -> Parser:
    """The options of `sb run`, or of a command that takes the same."""
    from argparse import BooleanOptionalAction

    from rootless_sb import engines, spec
    from rootless_sb.cli import options as shared
    from rootless_sb.cli.parsing import Parser

    options = Parser(command, description, example)
    options.usage = f"sb {command} [OPTIONS] [--] [COMMAND [ARG …]]"
    options.epilog = f"{_SETTINGS}\n\n{options.epilog}"
    add = options.add_argument
    add("--image", metavar="NAME", default="", help="an image to use as the root: ubuntu:24.04, an id")
    add("--pull", choices=("missing", "always", "never"), help="when to get the image (default: missing)")
    add("--platform", metavar="OS/ARCH", default="", help="the image's platform (default: this machine's)")
    add("--entrypoint", metavar="E", help="the program instead of the image's; COMMAND is its arguments")
    add("--rootfs", metavar="DIR", help="a directory to use as the root, instead of this machine's")
    shared.add_variables(options)
    add("--clearenv", action="store_true", help="start without any of the caller's variables")
    add("--unsetenv", metavar="K", action="append", default=[], help="leave a variable out")
    add("-w", "--workdir", metavar="DIR", help="the working directory inside (default: the current one)")
    shared.add_identity(options, "root")
    add("--hostname", metavar="NAME", help="the host name inside (default: the sandbox's id)")
    add("--uts", choices=(spec.PRIVATE, spec.HOST), default=spec.PRIVATE, help="host: the host's name, as it changes")
    add("-v", "--volume", metavar="SRC[:DST[:ro]]", action="append", default=[], help="what stays the host's inside")
    add("--tmpfs", metavar="DST[:OPTIONS]", action="append", default=[], help="a file system in memory, as size=1g")
    add("--read-only", action="store_true", help="nothing can be changed but in volumes and in memory")
    add("--pids-limit", metavar="N", type=int, help="processes and threads at once (default: 4096 or more)")
    add("--cpus", metavar="N", default="", help="how many processors' time it may use, as 1.5")
    add("--memory", metavar="SIZE", default="", help="what its processes may use, as 512m (default: 90 %% of it)")
    add("--ulimit", metavar="NAME=SOFT[:HARD]", action="append", default=[], help="a limit of each process, as nofile")
    add("--hide", metavar="PATH", action="append", default=[], help="a path that isn't there inside")
    add("--show", metavar="PATH", action="append", default=[], help="what is hidden or held by default: ~/.ssh, .git")
    add("--read-only-path", metavar="PATH", action="append", default=[], help="a path that can't be changed inside")
    add("--disk", metavar="SIZE", default="", help="what may be written, as 10g (default: to 5 %% free)")
    add("--inodes", metavar="N", type=int, default=0, help="how many files may be made (default: to 5 %% free)")
    add("--audit", metavar="FILE", default="", help="write there what is opened and changed, as lines of JSON")
    add("--engine", choices=engines.ENGINES, default=engines.FUSE, help="what serves the files (default: fuse)")
    add("--userns", choices=(spec.ROOT, spec.SINGLE, spec.KEEP_ID), default=spec.ROOT, help="who you are inside")
    shared.add_groups(options)
    add("--allow-degraded", metavar="CHECK", action="append", default=[], help="go on without it: net, uts, …")
    shared.add_barriers(options)
    shared.add_streams(options)
    shared.add_preserved(options)
    add("--keep", action="store_true", help="keep the sandbox and what it changes")
    add("--name", metavar="NAME", default="", help="keep it, by this name")
    add("-d", "--detach", action="store_true", help="run in the background, and keep it; print its id")
    add("--rm", action="store_true", help="throw its changes away although it has a name")
    add("--profile", metavar="NAME", default="", help="take the options of [profile.NAME] in config.toml too")
    shared.add_watching(options)
    add("--agent", action=BooleanOptionalAction, default=False, help="start through a process that is ready for it")
    add("--dry-run", action="store_true", help="print what would be done, and do nothing")
    add("--json", action="store_true", help="with --dry-run: as JSON")
    add("-q", "--quiet", action="store_true", help="no messages but errors")
    add("--verbose", action="store_true", help="say what is shut, without a terminal too")
    shared.add_command(options)
    return options


def run_spec(parsed: argparse.Namespace) -> spec.RunSpec:
    """What the parsed options ask for. Raises SbError."""
    from rootless_sb import spec
    from rootless_sb.cli import environment, options, parsing

    profile = options.seccomp(parsed)
    return spec.RunSpec(
        command=options.command(parsed),
        image=parsed.image,
        entrypoint=parsed.entrypoint,
        engine=parsed.engine,
        rootfs=_directory(parsed.rootfs) if parsed.rootfs else None,
        tty=parsed.tty,
        interactive=parsed.interactive,
        environment=environment.variables(parsed.env_file, parsed.env, os.environ),
        clear_environment=parsed.clearenv,
        unset_environment=tuple(parsed.unsetenv),
        workdir=parsed.workdir,
        hostname=_host_name(parsed.hostname) if parsed.hostname else None,
        uts=parsed.uts,
        hidden=tuple(map(_hidden, parsed.hide)),
        shown=tuple(map(options.absolute, parsed.show)),
        userns=parsed.userns,
        supplementary_groups=options.keeps_groups(parsed),
        allow_degraded=tuple(parsed.allow_degraded),
        quiet=parsed.quiet,
        verbose=parsed.verbose,
        name=_name(parsed.name),
        keep=_kept(parsed),
        detach=parsed.detach,
        user=parsed.user,
        timeout=parsing.seconds(parsed.timeout) if parsed.timeout is not None else 0.0,
        capabilities_added=tuple(parsed.cap_add),
        capabilities_dropped=tuple(parsed.cap_drop),
        seccomp=profile,
        seccomp_profile=_profile(profile),
        nested=parsed.nested,
        volumes=_volumes(parsed),
        scratches=tuple(parsed.tmpfs),
        read_only=parsed.read_only,
        read_only_paths=tuple(map(options.absolute, parsed.read_only_path)),
        disk=parsed.disk,
        audit=options.absolute(parsed.audit) if parsed.audit else "",
        inodes=_count(parsed.inodes),
        cpus=parsed.cpus,
        memory=parsed.memory,
        pids_limit=0 if parsed.pids_limit is None else max(parsed.pids_limit, 0) or -1,
        ulimits=tuple(parsed.ulimit),
    )


def _count(inodes: int) -> int:
    """How many inodes there may be. Raises SbError."""
    if inodes < 0:
        raise SbError(f"--inodes {inodes}", "not a number of files", "--inodes 100000")
    return inodes


def _profile(name: str) -> str:
    """What the file of a seccomp profile holds; nothing for one that isn't a file. Raises SbError."""
    if not name.startswith("/"):
        return ""
    hint = "default, unconfined, or a file in the OCI JSON format"
    with Doing(f"--seccomp {name}", hint), open(name, encoding="utf-8", errors="replace") as file:
        return file.read()


def _directory(path: str) -> str:
    """The absolute path of a directory. Raises SbError if it isn't one."""
    from rootless_sb.cli import options

    if not os.path.isdir(path):
        why = "not a directory" if os.path.exists(path) else "No such file or directory"
        raise SbError(f"--rootfs {path}", why, "a directory that holds a root file system: bin, etc, usr and so on")
    return options.absolute(path)


def _hidden(path: str) -> str:
    """The absolute path of what is to be hidden. Raises SbError."""
    from rootless_sb.cli import options

    absolute = options.absolute(path)
    if absolute.lstrip("/") == "":
        raise SbError(f"--hide {path}", "the root can't be hidden", "--rootfs DIR uses a directory as the root")
    return absolute


def _volumes(parsed: argparse.Namespace) -> tuple[str, ...]:
    """All volumes in absolute paths: those asked for, and for the sockets that are shown and aren't among them. Raises
    SbError.
    """
    from rootless_sb.volumes import parse_volume

    asked = tuple(map(_volume, parsed.volume))
    places = {parse_volume(text, "/").target for text in asked}
    return (*asked, *(text for text in _sockets(parsed.show) if parse_volume(text, "/").target not in places))


def _volume(text: str) -> str:
    """A volume in absolute paths. Raises SbError: its source isn't there, say."""
    from rootless_sb.cli import options
    from rootless_sb.volumes import parse_volume

    volume = parse_volume(text, "/" if text.startswith("/") else options.absolute("."))
    if not os.path.lexists(volume.source):
        raise SbError(f"--volume {text}", f"{volume.source}: No such file or directory", "-v SRC:DST: SRC is outside")
    return ":".join((volume.source, volume.target, "ro" if volume.read_only else "rw"))


def _sockets(shown: Sequence[str]) -> list[str]:
    """Volumes for the sockets at these paths, or in the directories there: through the overlay nobody can connect."""
    found = []
    for path in map(os.path.abspath, shown):
        inside = os.listdir(path) if os.path.isdir(path) and os.access(path, os.R_OK) else []
        found += [each for each in (path, *(os.path.join(path, name) for name in inside)) if _is_socket(each)]
    return [f"{path}:{path}:rw" for path in dict.fromkeys(found) if ":" not in path]


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:  # nothing is there, or nothing that we may know of
        return False


def _name(name: str) -> str:
    """The name if it can be one, or none at all. Raises SbError."""
    if name:
        from rootless_sb import names

        names.check(name)
    return name


def _kept(parsed: argparse.Namespace) -> bool:
    """Whether the sandbox stays at its end. Raises SbError for both at once."""
    if parsed.keep and parsed.rm:
        raise SbError("--keep and --rm", "they exclude each other", "--keep keeps the sandbox, --rm removes it")
    return bool(parsed.keep or parsed.name or parsed.detach) and not parsed.rm


def _host_name(name: str) -> str:
    """A host name that the kernel and /etc/hosts can take. Raises SbError."""
    letters = name.replace("-", "").replace(".", "")
    if len(name) > 64 or not (letters.isascii() and letters.isalnum()) or name[0] in "-.":  # 64: sethostname(2)
        raise SbError(f"--hostname {name}", "not a host name", "letters, digits, - and ., 64 at most")
    return name
