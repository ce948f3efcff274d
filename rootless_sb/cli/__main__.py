"""`sb`: finds the subcommand and imports only that one."""

from __future__ import annotations

# Where an agent does the rest, this and what it takes to ask for that is all that is imported; so neither `typing` nor
# `signal`, which take as long as all of it. _signal is what signal is made of, and type checkers know this name:
import _signal  # type: ignore[import-not-found]
import os
import sys
import time

from rootless_sb import phases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_USAGE = """\
usage: sb COMMAND [OPTIONS] …

A root shell in a sandbox, without root: everything is there, nothing that it changes stays.

commands:
  run          run a command in a new sandbox
  try          run a command, show what it changed, and ask what to do with it
  exec         run one more command in a sandbox
  start        start a sandbox that was kept again
  attach       back to a sandbox in the background
  stop         end a running sandbox
  kill         send a sandbox's command a signal
  logs         what a sandbox in the background has written
  ps           list sandboxes
  top          the processes of sandboxes
  stats        what sandboxes use
  inspect      what is known of a sandbox
  diff         what a sandbox changed
  apply        bring what a sandbox changed to this machine
  export       what a sandbox changed, as a tar archive
  cp           copy files out of a sandbox, or into it
  keep         keep a running sandbox after all
  rm           remove sandboxes
  prune        remove all sandboxes that have ended
  image        images: get, list, remove, make archives of them
  doctor       what sb needs of this host, and what is missing

options:
  --version    print the version
  --help       print this; `sb COMMAND --help` tells more

example: sb run /bin/bash
"""

_NAMES = (
    *("run", "exec", "start", "attach", "stop", "kill", "keep", "rm", "prune"),
    *("diff", "apply", "export", "cp", "ps", "top", "stats", "logs", "inspect", "image", "doctor"),
)
_MODULES = {name: f"rootless_sb.cli.{name}" for name in _NAMES} | {"try": "rootless_sb.cli.try_"}


def main() -> int:
    """The console script. Returns the exit status, by way of os._exit: tearing the interpreter down takes 20 ms."""
    began = time.monotonic_ns(), time.process_time_ns()
    phases.begin(*began)
    _take_signals_as_they_come()
    _open_standard()
    if sys.stdout.encoding != "utf-8":
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a TextIOWrapper, as Python starts it
    os._exit(finish(lambda: _run_command(sys.argv[1:], began)))


def finish(command: Callable[[], int]) -> int:
    """Run a command to its end and report why it failed, if it did; the exit status is returned."""
    try:
        try:
            status = _reporting(command)
        except SystemExit as ended:  # argparse has printed its help
            status = int(ended.code or 0)
        return _reporting(_write_out) or status
    except BrokenPipeError:  # who read stdout has had enough
        return 0


def _write_out() -> int:
    """Write what is still in stdout's buffer. Returns 0. Raises BrokenPipeError and SbError."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        from rootless_sb.errors import SbError

        raise SbError("cannot write to stdout", error.strerror or str(error)) from error
    return 0


def _take_signals_as_they_come() -> None:
    """Ctrl-C ends sb as it ends any program, without a traceback; and children can be waited for, whatever the caller
    did with SIGCHLD."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)


def _open_standard() -> None:
    """Have /dev/null stand for what the caller has closed of 0, 1 and 2: no file of ours may take its place.

    Python has None for such a stream.
    """
    while (descriptor := os.open("/dev/null", os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


def _reporting(command: Callable[[], int]) -> int:
    try:
        return command()
    except BrokenPipeError:
        raise
    except Exception as error:
        from rootless_sb import errors

        failed = error
        if isinstance(error, OSError):  # what no narrower place has named
            failed = errors.failure("cannot go on", error)
        if not isinstance(failed, errors.SbError):
            raise
    from rootless_sb.ui import messages

    messages.report(failed)
    return failed.status


def _run_command(arguments: list[str], began: tuple[int, int]) -> int:
    if arguments[:1] == ["--version"]:
        from rootless_sb import __version__

        sys.stdout.write(f"sb {__version__}\n")
        return 0
    if arguments[:1] == ["run"]:
        from rootless_sb.agent import client

        status = client.run(arguments[1:], began)
        if status is not None:
            return status
    from rootless_sb.cli import parsing

    return parsing.run_subcommand("sb", arguments, _USAGE, _MODULES)


if __name__ == "__main__":
    main()
