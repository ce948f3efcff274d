"""What was asked for: a run, as the command line (or another program) states it. Pure."""

from __future__ import annotations

from typing import NamedTuple

# --userns
ROOT = "root"
SINGLE = "single"
KEEP_ID = "keep-id"


class RunSpec(NamedTuple):
    """One `sb run`. Empty or None means: not given."""

    command: tuple[str, ...] = ()
    rootfs: str | None = None
    tty: bool | None = None
    interactive: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    clear_environment: bool = False
    unset_environment: tuple[str, ...] = ()
    workdir: str | None = None
    hostname: str | None = None
    hidden: tuple[str, ...] = ()
    userns: str = ROOT
    allow_degraded: tuple[str, ...] = ()
    quiet: bool = False
    verbose: bool = False
    name: str = ""
    keep: bool = False
    detach: bool = False
    timeout: float = 0.0  # seconds, 0 for none
    user: str = ""
