"""A host to plan for, as data."""

from __future__ import annotations

from rootless_sb.host import Host, SubordinateRange

HOST = Host(
    uid=1000,
    gid=1000,
    groups=(),
    user="ann",
    home="/home/ann",
    directory="/home/ann/work",
    environment=(("HOME", "/home/ann"), ("SHELL", "/bin/zsh"), ("TERM", "xterm"), ("TMPDIR", "/scratch/")),
    umask=0o027,
    parent=77,
    ignored_signals=(),
    no_new_privileges=False,
    newuidmap="/usr/bin/newuidmap",
    newgidmap="/usr/bin/newgidmap",
    subordinate_uids=(SubordinateRange(100000, 65536),),
    subordinate_gids=(SubordinateRange(200000, 65536),),
    etc_hosts=b"127.0.0.1 localhost",
    resolv_conf=b"nameserver 192.0.2.1\n",
    devices=("null", "tty", "fuse"),
    machine="x86_64",
    release="6.1.0-9-amd64",
    name="desk",
    processors=2,
    affinity=(0, 1),
    memory=10_000_000_000,
    processes=-1,
    inotify=(("max_inotify_instances", 128),),
    landlock=6,
    unreadable=("/etc/shadow", "/etc/gshadow"),
)
