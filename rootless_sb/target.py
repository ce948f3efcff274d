"""Starts a program in the sandbox: in user namespace B, with its descriptors, directory and environment, then exec."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NoReturn

from fuse_overlay.tuples import NamedTuple
from rootless_sb import accounts, protocol
from rootless_sb.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, Doing, SbError
from rootless_sb.kernel import capabilities, channel, descriptors, files, namespaces, processes, seccomp
from rootless_sb.maps import map_text, nested
from rootless_sb.requirements import Lacking
from rootless_sb.security.capabilities import mask

if TYPE_CHECKING:
    from rootless_sb.kernel.channel import Channel
    from rootless_sb.limits import Limit
    from rootless_sb.maps import IdMaps
    from rootless_sb.program import Target
    from rootless_sb.relay import Standard
    from rootless_sb.security.barriers import Barriers

_TABLE_MAX = 1 << 24  # bytes of a passwd or group file: the file may be anything
_ONE_USER = "without subordinate ids a sandbox has one user; sb doctor says how to get them"
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"  # what execvp(3) searches when PATH isn't set, and /usr/local


class NewInner(NamedTuple):
    """What user namespace B is made with: its maps, and a descriptor of /proc. `mounts`: with a mount namespace too."""

    id_maps: IdMaps
    proc: int
    mounts: bool


class Inner(NamedTuple):
    """Descriptors of user namespace B, and of its mount namespace if it has one."""

    user: int
    mounts: int | None

    def opened(self) -> set[int]:
        """Both."""
        return {self.user} if self.mounts is None else {self.user, self.mounts}


class Surroundings(NamedTuple):
    """What the starting process lends: the pty's slave if there is one, /dev/null, what is to be 0, 1, 2 and so on, and
    either B, to be joined, or what it takes to make B; None where the target stays in A. `barriers`: what it stands
    behind; `limits`: what it is held to.
    """

    slave: int | None
    null: int
    standard: Standard
    inner: Inner | NewInner | None
    barriers: Barriers
    limits: tuple[Limit, ...]


class Started(NamedTuple):
    """A program that runs: its pid, and B if there is one."""

    pid: int
    inner: Inner | None


def start(wanted: Target, surroundings: Surroundings) -> Started:
    """Fork and start a program; returns once it runs. Raises SbError when it can't be run.

    pid 1 writes the maps of B, which the new process makes: whoever is in A has the right to, B itself has not.
    """
    ours, theirs = channel.pair()
    lent = (surroundings.null, surroundings.slave, *surroundings.standard.values())
    keep = {theirs.fileno(), *(each for each in lent if each is not None and each >= 0)}
    if isinstance(surroundings.inner, Inner):
        keep |= surroundings.inner.opened()
    with Doing("cannot fork"):
        pid = processes.fork(lambda: _become(wanted, theirs, surroundings), keep)
    theirs.close()
    _answer(ours)  # UNSHARED
    inner = surroundings.inner
    if isinstance(inner, NewInner):
        inner = _map_ids(inner, pid)
    if surroundings.slave is not None:
        os.tcsetpgrp(surroundings.slave, pid)
    ours.try_send(protocol.encode(protocol.MAPPED))
    _answer(ours)  # the end: exec closed it
    ours.close()
    return Started(pid, inner)


def _map_ids(wanted: NewInner, pid: int) -> Inner:
    """Write the maps of the namespace B that the process `pid` has made, and open it. Raises SbError."""
    with Doing("cannot map ids in the inner user namespace"):
        directory = os.open(str(pid), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=wanted.proc)
        namespaces.write_id_map(directory, "uid_map", map_text(nested(wanted.id_maps.uids)))
        namespaces.write_id_map(directory, "gid_map", map_text(nested(wanted.id_maps.gids)))
        user = os.open("ns/user", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        mounts = os.open("ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory) if wanted.mounts else None
        os.close(directory)
    return Inner(user, mounts)


def _answer(process: Channel) -> None:
    """Wait for the new process's next word, or for its exec; raises SbError if that is a failure."""
    data, _ = process.receive()
    if data and (message := protocol.decode(data)).kind == protocol.FAILED:
        raise protocol.failure(message)


def _become(wanted: Target, parent: Channel, surroundings: Surroundings) -> int:
    """In the new process: become the target. Returns, with the exit status, only if that fails."""
    try:
        os.setpgid(0, 0)
        _enter(surroundings.inner)
        parent.send(protocol.encode(protocol.UNSHARED))
        parent.receive()  # MAPPED
        processes.hide_from_others()
        with Doing(f"cannot enter {wanted.directory}", "-w DIR chooses another working directory"):
            os.chdir(wanted.directory)  # as root, as docker does it: the user may have been given it afterwards
        environment = dict(wanted.environment)
        with Doing("cannot drop capabilities"):
            # While there still is the one that it takes: a user who isn't root loses all.
            capabilities.bound(mask(surroundings.barriers.capabilities))
        if wanted.user:
            _become_user(wanted.user, surroundings.slave, environment)
        _place_standard(surroundings, parent)
        os.umask(wanted.umask)
        processes.end_at_file_limit()
        processes.ignore(wanted.ignored_signals)
        for limit in surroundings.limits:
            with Doing(f"cannot set the limit {limit.name}", "ulimit -H -a shows what is allowed at most"):
                processes.limit(*limit)
        _go_behind(surroundings.barriers)
        execute(wanted.arguments, environment)
    except SbError as error:
        parent.send(protocol.failed(error))
        return error.status


def _enter(inner: Inner | NewInner | None) -> None:
    """Make or join B. Raises SbError.

    Whoever lives in B already could trace a process that has joined it, and reach our program and what it isn't to have
    yet, so that one is hidden until exec. (One that makes B can't be before its maps are written, and is alone there.)
    """
    with Lacking("nested"):
        if isinstance(inner, NewInner):
            namespaces.unshare(namespaces.NEWUSER | (namespaces.NEWNS if inner.mounts else 0))
        elif inner is not None:
            processes.hide_from_others()
            namespaces.setns(inner.user, namespaces.NEWUSER)
            if inner.mounts is not None:
                namespaces.setns(inner.mounts, namespaces.NEWNS)


def _become_user(called: str, slave: int | None, environment: dict[str, str]) -> None:
    """Become this user of the sandbox and give them the terminal; fills in HOME and the like. Raises SbError."""
    with Doing("cannot read the sandbox's users"):
        account = accounts.find(called, *(files.read_within("/etc", name, _TABLE_MAX) for name in ("passwd", "group")))
    with Doing(f"cannot become user {called}", _ONE_USER):
        if slave is not None:
            os.fchown(slave, account.uid, -1)
        processes.become(account.uid, account.gid, account.groups)
    environment.setdefault("HOME", account.home)
    if account.name:
        environment.setdefault("USER", account.name)
        environment.setdefault("LOGNAME", account.name)


def _go_behind(barriers: Barriers) -> None:
    """Give up what the target isn't to have; the filter comes last, for it may forbid the rest. (no_new_privs came with
    the fork: pid 1 has set it.) Raises SbError.
    """
    with Doing("cannot drop capabilities"):
        capabilities.limit(mask(barriers.capabilities))
    if barriers.program:
        with Lacking("seccomp"):
            seccomp.install(barriers.program)


def _place_standard(surroundings: Surroundings, parent: Channel) -> None:
    """Put under its number what the target is to find there, and the way to our parent above. Raises SbError."""
    sources = {None: surroundings.slave, -1: surroundings.null}
    wanted = {number: sources.get(each, each) for number, each in surroundings.standard.items()}
    with Doing("cannot give the command its descriptors", "ulimit -n bounds their numbers; --preserve-fd a lower one"):
        parent.move_above(max(wanted))
        descriptors.place({number: source for number, source in wanted.items() if source is not None})


def execute(arguments: tuple[str, ...], environment: dict[str, str]) -> NoReturn:
    """exec the program, looked up in PATH as execvp(3) does; a script without `#!` is the shell's. Raises SbError."""
    program = arguments[0]
    refused: OSError | None = None
    for path in candidates(program, environment.get("PATH", _DEFAULT_PATH)):
        try:
            _exec_or_shell(path, arguments, environment)
        except OSError as error:
            # EACCES of a directory in PATH that root can't enter either (the host's /root) is no refusal of a program.
            absent = error.errno == errno.EACCES and not os.path.exists(path)
            if error.errno not in (errno.ENOENT, errno.ENOTDIR) and not absent:
                refused = refused or error
    if refused is not None:
        raise SbError(f"cannot run {program}", refused.strerror or str(refused), status=EXIT_NOT_EXECUTABLE)
    interpreter = "its interpreter (the #! line, or the dynamic loader) is not in the sandbox"
    hint = interpreter if "/" in program and os.path.exists(program) else ""
    raise SbError(f"cannot run {program}", "not found", hint, EXIT_NOT_FOUND)


def candidates(program: str, search_path: str) -> list[str]:
    """The paths where `program` is looked for, in order; an empty entry of PATH is the working directory. Pure."""
    if "/" in program:
        return [program]
    return [f"{directory or '.'}/{program}" for directory in search_path.split(":")] if program else []


def _exec_or_shell(path: str, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    try:
        os.execve(path, arguments, environment)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    os.execve("/bin/sh", ("/bin/sh", path, *arguments[1:]), environment)
