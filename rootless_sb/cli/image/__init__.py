"""`sb image`: finds its subcommand and imports only that one."""

from __future__ import annotations

from rootless_sb.cli import parsing

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

_NAMES = ("pull", "push", "load", "save", "ls", "inspect", "rm", "prune")
_MODULES = {name: f"rootless_sb.cli.image.{name}" for name in _NAMES} | {"import": "rootless_sb.cli.image.importing"}


def main(arguments: list[str]) -> int:
    """Run the command line after `sb image`; returns the exit status. Raises SbError."""
    return parsing.run_subcommand("sb image", arguments, _USAGE, _MODULES)
