"""Processes: fork with nothing inherited by accident, tie lives together, wait. prctl(2), wait(2)."""

from __future__ import annotations

# What `signal` is made of: it makes an enum's member of each number, which in a new process takes a third of the fork.
import _signal  # type: ignore[import-not-found]
import ctypes
import errno
import fcntl
import gc
import os
import resource
import select
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import prctl

from rootless_sb.kernel import descriptors, libc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_F_SETSIG = 10  # <asm-generic/fcntl.h>
_LIMITS = 16  # RLIM_NLIMITS, <asm-generic/resource.h>
_SYS_IOPRIO = {"x86_64": (252, 251), "aarch64": (31, 30)}.get(os.uname().machine, (-1, -1))  # to get, to set
_IOPRIO_WHO_PROCESS = 1  # ioprio_set(2)
_ALL_SIGNALS = frozenset(map(int, signal.valid_signals()))
_RESETTABLE = tuple(_ALL_SIGNALS - {signal.SIGKILL, signal.SIGSTOP})


def fork(role: Callable[[], int], keep: set[int]) -> int:
    """Fork a process that runs `role` and exits with the status that it returns; the new pid is returned.

    The process starts with signals as `reset_signals` has them and no descriptor but 0, 1, 2 and `keep`. Signals are
    blocked until then, so none meant for the parent is handled twice. Raises OSError.
    """
    gc.freeze()  # a look at what is there by now would write to all of it, and end that both share its memory
    before = _signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
    try:
        pid = os.fork()
        if pid:
            return pid
        status = 125
        try:
            reset_signals()
            descriptors.close_others({0, 1, 2, *keep})
            _signal.pthread_sigmask(signal.SIG_SETMASK, ())
            status = role()
        except BaseException as error:
            _complain(error)
        finally:
            os._exit(status)
    finally:
        _signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _complain(error: BaseException) -> None:
    """Name a mistake of our own and where it was made. Python's own traceback would read our sources by their paths,
    which may lie in the sandbox by now, and import what their first lines ask for."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        places.append(f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    if sys.stderr is not None:
        sys.stderr.write(f"sb: internal error: {error!r} in {' > '.join(places)}\n")
        sys.stderr.flush()


def reset_signals() -> None:
    """Give every signal its default action, SIGPIPE too, which Python ignores; but SIGXFSZ, at a file's limit of size
    (setrlimit(2)), is ignored as Python has it: who wrote the file can then say what failed.
    """
    signal.set_wakeup_fd(-1)
    for number in _RESETTABLE:
        _signal.signal(number, 0)  # SIG_DFL
    _signal.signal(_signal.SIGXFSZ, 1)  # SIG_IGN


def end_at_file_limit() -> None:
    """Have the next program that is executed be killed by SIGXFSZ, as any is."""
    _signal.signal(_signal.SIGXFSZ, 0)  # SIG_DFL


def run_silently(arguments: list[str]) -> int:
    """Start the program `arguments[0]` (a path), its stderr thrown away, and return its pid. Raises OSError."""
    silence = (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)
    return os.posix_spawn(arguments[0], arguments, {}, file_actions=[silence])


def start_apart(arguments: list[str], environment: dict[str, str]) -> None:
    """Start the program `arguments[0]` (a path) in a session of its own, with /dev/null for 0, 1 and 2.

    (posix_spawn(3) would have it ignore the C library's own two signals, and all that it starts.) Raises OSError.
    """

    def become() -> NoReturn:
        os.setsid()
        descriptors.shut((0, 1, 2), descriptors.open_null())
        os.execve(arguments[0], arguments, environment)

    fork(become, set())


def suspend() -> None:
    """Stop the caller's whole process group, as Ctrl-Z does at a terminal; returns when it is continued.

    Nothing happens in a group that nobody could continue (an orphaned one: setpgid(2)). That it is continued is told by
    the return alone: its SIGCONT is no event besides.
    """
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTSTP, signal.SIGCONT)}
    os.kill(0, signal.SIGTSTP)
    for number, handler in before.items():
        signal.signal(number, handler)


def watch(pid: int) -> int | None:
    """A descriptor that turns readable when the process ends; None where there is no pidfd_open(2) (before 5.3)."""
    try:
        return os.pidfd_open(pid)
    except OSError:  # ENOSYS; or it has ended, or isn't ours to see
        return None


def has_pidfds() -> bool:
    """Whether this kernel has pidfd_open(2)."""
    descriptor = watch(os.getpid())
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def ignored_signals() -> tuple[int, ...]:
    """The signals that the caller of this program had ignored (Python ignores SIGPIPE and SIGXFSZ by itself)."""
    by_python = {signal.SIGPIPE, signal.SIGXFSZ}
    return tuple(
        int(number) for number in _ALL_SIGNALS - by_python if signal.getsignal(number) == signal.SIG_IGN
    )


def ignore(numbers: Iterable[int]) -> None:
    """Ignore signals; a program that is then executed ignores them too."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def limit(name: str, soft: int, hard: int) -> None:
    """Hold this process, and all that it becomes and starts, to one of setrlimit(2)'s limits, `nofile` say.

    -1 is no limit. Raises OSError: `hard` is above what it was.
    """
    try:
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (soft, hard))
    except ValueError as error:  # resource's own way to say EPERM and EINVAL
        raise OSError(errno.EPERM, str(error)) from None


def most() -> int:
    """How many processes the user of this one may have, threads counted too (RLIMIT_NPROC); -1 for any number."""
    return resource.getrlimit(resource.RLIMIT_NPROC)[0]


def limit_number(most: int) -> tuple[int, int]:
    """Let this process and user namespaces that are made from here on have at most so many processes (RLIMIT_NPROC),
    threads counted too; the limit before is returned, soft and hard, for `limit`. Raises OSError.
    """
    before = resource.getrlimit(resource.RLIMIT_NPROC)
    hard = before[1]
    limit("nproc", most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
    return before


def bind(processors: Iterable[int]) -> None:
    """Let this process, and all that it starts, run on these processors only: sched_setaffinity(2). Raises OSError."""
    os.sched_setaffinity(0, processors)


def lift_limits() -> None:
    """Raise every soft limit to the hard one: what the caller set for its command isn't meant for us."""
    for name in ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE"):
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (hard, hard))


def copy_limits(pid: int) -> None:
    """Have the limits of another process of the same user (prlimit(2)). Raises OSError: a hard one is above ours."""
    for kind in range(_LIMITS):
        theirs = resource.prlimit(pid, kind)
        if resource.getrlimit(kind) != theirs:
            try:
                resource.setrlimit(kind, theirs)
            except ValueError as error:  # as in `limit`
                raise OSError(errno.EPERM, str(error)) from None


def copy_scheduling(pid: int) -> None:
    """Have another process's processors, nice value and I/O priority. Raises OSError: EPERM if these are better than
    ours, or its scheduling policy is another one.
    """
    if os.sched_getscheduler(pid) != os.sched_getscheduler(0):
        raise OSError(errno.EPERM, "another scheduling policy")
    os.sched_setaffinity(0, os.sched_getaffinity(pid))
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, pid))
    get, put = _SYS_IOPRIO
    libc.syscall(put, _IOPRIO_WHO_PROCESS, 0, libc.syscall(get, _IOPRIO_WHO_PROCESS, pid))


def set_timer_slack(nanoseconds: int) -> None:
    """How late timers of this process may be (PR_SET_TIMERSLACK, prctl(2))."""
    prctl.set_timerslack(nanoseconds)


def die_with_parent() -> None:
    """Have the kernel send SIGKILL when the parent dies (PR_SET_PDEATHSIG). A change of ids undoes it: call it last."""
    prctl.set_pdeathsig(signal.SIGKILL)


def die_with(pipe: int) -> None:
    """Have the kernel send SIGKILL when the other end of a pipe, of which this is the reading one, is closed.

    What PR_SET_PDEATHSIG is for a parent, this is for any process that holds the writing end: O_ASYNC, with another
    signal than SIGIO (F_SETSIG, fcntl(2)). Raises OSError.
    """
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if is_readable(pipe):  # it was closed before
        os.kill(os.getpid(), signal.SIGKILL)


def has_ended(pidfd: int) -> bool:
    """Whether the process of a pidfd has ended (pidfd_open(2))."""
    return is_readable(pidfd)


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, which waitpid(2) tells but once; False once it has ended. Of one whose first thread
    has ended while others go on, nothing better is known than that it may be.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.readall().rpartition(b")")[2].split()[0] in (b"T", b"Z")
    except OSError:
        return False


def is_readable(descriptor: int) -> bool:
    """Whether there is something to read, or an end, on a descriptor now."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def hide_from_others() -> None:
    """Make /proc/PID of this process root's: no ptrace and no reading of its memory by the user's other processes."""
    prctl.set_dumpable(0)


def set_name(name: str) -> None:
    """Name the process as top(1) shows it, without a look at /proc; at most 15 bytes."""
    prctl.set_name(name)


def set_title(title: str) -> None:
    """Name the process as ps(1) shows it; the command line that it was forked with is not the sandbox's business."""
    prctl.set_name(title)
    first, last = _place_of_arguments()
    # (python-prctl's own set_proctitle crashes when the command line is longer than some thousand bytes.)
    ctypes.memset(first, 0, last - first)
    ctypes.memmove(first, title.encode(), min(len(title), last - first - 1))


def wipe_environment() -> None:
    """Leave nothing of the caller's variables in this process, nor in its /proc/PID/environ."""
    os.environ.clear()
    first, last = _places(50)
    ctypes.memset(first, 0, last - first)


def _place_of_arguments() -> tuple[int, int]:
    """Where the command line that ps(1) shows lies in this process: arg_start and arg_end of proc_pid_stat(5)."""
    return _places(48)


def _places(field: int) -> tuple[int, int]:
    """Two addresses in proc_pid_stat(5), which counts its fields from 1: `field` (behind the parenthesis) and the next.
    """
    with open("/proc/self/stat", "rb", buffering=0) as file:
        fields = file.readall().rpartition(b")")[2].split()
    return int(fields[field - 3]), int(fields[field - 2])


def new_privileges_are_forbidden() -> bool:
    """Whether no_new_privs is set: setuid helpers are of no use then."""
    return bool(prctl.get_no_new_privs())


def forbid_new_privileges() -> None:
    """no_new_privs: no setuid bit and no file capability has effect from here on."""
    prctl.set_no_new_privs(1)


def become(uid: int, gid: int, groups: tuple[int, ...]) -> None:
    """Take these ids, for good, and with them lose all capabilities unless `uid` is 0 (capabilities(7)).

    Groups stay as they are where the user namespace forbids to change them (one id: user_namespaces(7), setgroups).
    Raises OSError: EINVAL for an id that isn't mapped.
    """
    try:
        os.setgroups(groups)
    except PermissionError:
        pass
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def drop_groups() -> None:
    """Give up all supplementary groups. Raises OSError."""
    os.setgroups(())


def exit_code(wait_status: int) -> int:
    """The shell's view of a wait status: the exit status, or 128 + n for signal n."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code
