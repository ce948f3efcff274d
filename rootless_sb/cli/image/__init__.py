"""`sb image`: finds its subcommand and imports only that one."""

from __future__ import annotations

import sys

from rootless_sb.errors import SbError, did_you_mean

_USAGE = """\
usage: sb image COMMAND [OPTIONS] …

Images: what `sb run --image` runs on.

commands:
  pull         get one from a registry
  push         bring one to a registry
  load         take one from an archive (docker, OCI) or an OCI layout
  save         write one to an archive
  import       make one of a root file system: a tar archive or a directory
  ls           list them
  inspect      what is known of them
  rm           remove them
  prune        remove what nobody needs

options:
  --help       print this; `sb image COMMAND --help` tells more

example: sb image pull ubuntu:24.04
"""

_MODULES = {
    **{name: name for name in ("pull", "push", "load", "save", "ls", "inspect", "rm", "prune")},
    "import": "importing",
}


def main(arguments: list[str]) -> int:
    """Run the command line after `sb image`; returns the exit status. Raises SbError."""
    if not arguments:
        sys.stderr.write(_USAGE)
        return 125
    command, *rest = arguments
    if command in ("--help", "-h", "help"):
        sys.stdout.write(_USAGE)
        return 0
    if command not in _MODULES:
        raise SbError(f"unknown command image {command}", hint=did_you_mean(command, _MODULES) or "sb image --help")
    import importlib

    status: int = importlib.import_module(f"rootless_sb.cli.image.{_MODULES[command]}").main(rest)
    return status
