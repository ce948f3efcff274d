"""What was asked for: a run, as the command line (or another program) states it. Pure."""

from __future__ import annotations

from fuse_overlay.tuples import NamedTuple

# --userns
ROOT = "root"
SINGLE = "single"
KEEP_ID = "keep-id"
# --uts
PRIVATE = "private"
HOST = "host"


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
    uts: str = PRIVATE  # or HOST: its UTS namespace, and so its name, is the host's
    hidden: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()  # what isn't hidden although it is by default
    userns: str = ROOT
    supplementary_groups: bool = True  # whether those of the user open files
    allow_degraded: tuple[str, ...] = ()
    quiet: bool = False
    verbose: bool = False
    name: str = ""
    keep: bool = False
    detach: bool = False
    timeout: float = 0.0  # seconds, 0 for none
    user: str = ""
    capabilities_added: tuple[str, ...] = ()
    capabilities_dropped: tuple[str, ...] = ()
    seccomp: str = "default"  # or unconfined, or the path of a profile
    seccomp_profile: str = ""  # what that file holds
    nested: bool = False
    image: str = ""
    entrypoint: str | None = None
    volumes: tuple[str, ...] = ()  # as `volumes.parse_volume` takes them, all of it absolute
    scratches: tuple[str, ...] = ()  # as `volumes.parse_scratch` takes them
    read_only: bool = False
    read_only_paths: tuple[str, ...] = ()
    disk: str = ""  # as `limits.parse_size` takes it
    inodes: int = 0  # 0 for the default
    audit: str = ""  # the path of a file
    pids_limit: int = 0  # 0 for the default, -1 for none
    memory: str = ""  # as `limits.parse_size` takes it
    cpus: str = ""  # as `limits.parse_processors` takes it
    engine: str = "fuse"  # or kernel, as `engines` names them
    ulimits: tuple[str, ...] = ()  # as `limits.parse_ulimit` takes them
