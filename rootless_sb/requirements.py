"""What sb needs of a host: names, words and remedies, which `sb doctor` and a failing `sb run` share. Pure."""

from __future__ import annotations

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import Doing


class Requirement(NamedTuple):
    """One thing that a host has or lacks. `name` is what `--allow-degraded` takes and `sb doctor --json` shows.

    `failure` begins the line that tells of its absence; `remedy` is what to type. `required`: without it sb refuses to
    run; `degradable`: unless told to go on by `--allow-degraded NAME`.
    """

    name: str
    title: str
    failure: str
    remedy: str
    required: bool = True
    degradable: bool = False


def _namespace(name: str, kind: str, title: str, *, degradable: bool = False) -> Requirement:
    remedy = f"as root: sysctl -w user.max_{kind}_namespaces=10000"
    return Requirement(name, title, f"cannot make a {title}", remedy, degradable=degradable)


_APPARMOR = "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
_SECCOMP = "a kernel with CONFIG_SECCOMP_FILTER"
_LANDLOCK = "Linux 5.13 or newer, booted with lsm=landlock,…"

REQUIREMENTS = {
    requirement.name: requirement
    for requirement in (
        _namespace("user", "user", "user namespace"),
        _namespace("mount", "mnt", "mount namespace"),
        _namespace("pid", "pid", "PID namespace"),
        _namespace("net", "net", "network namespace", degradable=True),
        _namespace("uts", "uts", "UTS namespace", degradable=True),
        _namespace("ipc", "ipc", "IPC namespace", degradable=True),
        _namespace("cgroup", "cgroup", "cgroup namespace", degradable=True),
        Requirement("nested", "nested user namespace", "cannot nest user namespaces", _APPARMOR, degradable=True),
        Requirement("seccomp", "seccomp filters", "no seccomp filters", _SECCOMP, degradable=True),
        Requirement("no_new_privs", "no_new_privs", "cannot set no_new_privs", "Linux 3.5 or newer", degradable=True),
        Requirement("mounts", "mounts in a user namespace", "cannot mount in a user namespace", _APPARMOR),
        Requirement("fuse", "/dev/fuse", "cannot open /dev/fuse", "as root: modprobe fuse; chmod 666 /dev/fuse"),
        Requirement("libfuse", "libfuse 3", "cannot load libfuse3", "as root: apt-get install libfuse3-3"),
        Requirement("layers", "place for layers", "cannot write a layer", "set TMPDIR to a directory of yours"),
        Requirement("newuidmap", "newuidmap", "no newuidmap", "as root: apt-get install uidmap", False),
        Requirement(
            "subids",
            "subordinate ids",
            "no subordinate ids",
            "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER",
            False,
        ),
        Requirement("xattrs", "xattrs on layers", "no user xattrs", "set TMPDIR to a directory on a local disk", False),
        Requirement("pidfd", "pidfd", "no pidfd_open", "Linux 5.3 or newer", False),
        Requirement("landlock", "Landlock", "no Landlock", _LANDLOCK, False, degradable=True),
        Requirement(
            "cgroups",
            "control groups",
            "no control group for a sandbox",
            "as root: loginctl enable-linger $USER",
            False,
        ),
        Requirement("pasta", "pasta", "no pasta", "as root: apt-get install passt", False),
        Requirement("slirp4netns", "slirp4netns", "no slirp4netns", "as root: apt-get install slirp4netns", False),
    )
}


class Lacking(Doing):
    """`with Lacking("net"):` reports an OSError inside in the words that `sb doctor` has for that requirement."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        super().__init__(REQUIREMENTS[name].failure, hint(name))


def hint(name: str) -> str:
    """What a run that fails for want of `name` advises."""
    requirement = REQUIREMENTS[name]
    if requirement.degradable:
        return f"{requirement.remedy}; or go on without it: --allow-degraded {name}"
    return f"{requirement.remedy} (sb doctor checks everything)"
