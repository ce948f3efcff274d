"""Starts a program in the sandbox: in user namespace B, with its descriptors, directory and environment, then exec."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from rootless_sb import protocol
from rootless_sb.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, Doing, SbError
from rootless_sb.kernel import channel, descriptors, namespaces, processes
from rootless_sb.maps import map_text, nested
from rootless_sb.requirements import Lacking

if TYPE_CHECKING:
    from rootless_sb.kernel.channel import Channel
    from rootless_sb.plan import Plan, Target
    from rootless_sb.relay import Standard

_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"  # what execvp(3) searches when PATH isn't set, and /usr/local


class Surroundings(NamedTuple):
    """What pid 1 lends: descriptors of its /proc, the pty's slave (if any), /dev/null; and what is to be 0 to 2."""

    proc: int
    slave: int | None
    null: int
    standard: Standard


def start(plan: Plan, surroundings: Surroundings) -> int:
    """Fork and start the target; its pid is returned once it runs. Raises SbError when it can't be run.

    pid 1 writes the maps of B, which the new process makes: whoever is in A has the right to, B itself has not.
    """
    ours, theirs = channel.pair()
    lent = (surroundings.null, surroundings.slave, *surroundings.standard)
    keep = {theirs.fileno(), *(each for each in lent if each is not None and each >= 0)}
    with Doing("cannot fork"):
        pid = processes.fork(lambda: _become(plan.target, theirs, surroundings), keep)
    theirs.close()
    _answer(ours)  # UNSHARED
    with Doing("cannot map ids in the inner user namespace"):
        directory = os.open(str(pid), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=surroundings.proc)
        namespaces.write_id_map(directory, "uid_map", map_text(nested(plan.id_maps.uids)))
        namespaces.write_id_map(directory, "gid_map", map_text(nested(plan.id_maps.gids)))
        os.close(directory)
    if surroundings.slave is not None:
        os.tcsetpgrp(surroundings.slave, pid)
    ours.try_send(protocol.encode(protocol.MAPPED))
    _answer(ours)  # the end: exec closed it
    ours.close()
    return pid


def _answer(process: Channel) -> None:
    """Wait for the new process's next word, or for its exec; raises SbError if that is a failure."""
    data, _ = process.receive()
    if data and (message := protocol.decode(data)).kind == protocol.FAILED:
        raise protocol.failure(message)


def _become(wanted: Target, parent: Channel, surroundings: Surroundings) -> int:
    """In the new process: become the target. Returns, with the exit status, only if that fails."""
    try:
        os.setpgid(0, 0)
        with Lacking("nested"):
            namespaces.unshare(namespaces.NEWUSER)
        parent.send(protocol.encode(protocol.UNSHARED))
        parent.receive()  # MAPPED
        _place_standard(surroundings)
        with Doing(f"cannot enter {wanted.directory}", "-w DIR chooses another working directory"):
            os.chdir(wanted.directory)
        os.umask(wanted.umask)
        processes.ignore(wanted.ignored_signals)
        processes.forbid_new_privileges()
        execute(wanted.arguments, dict(wanted.environment))
    except SbError as error:
        parent.send(protocol.failed(error))
        return error.status


def _place_standard(surroundings: Surroundings) -> None:
    sources = {None: surroundings.slave, -1: surroundings.null}
    wanted = {number: sources.get(each, each) for number, each in enumerate(surroundings.standard)}
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
