"""Changes that act by themselves once they are on the host: setuid bits, devices, and files that are run unasked. Pure.

Paths are judged by their last names, wherever they lie: a home can be reached under several paths.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from rootless_sb.review.changes import DATA, DELETED

if TYPE_CHECKING:
    from rootless_sb.review.changes import Change

_SHELL = "a shell runs it at its start"
_SESSION = "it is run when a session begins"
_SYSTEM = "the system runs it, or obeys it"
_GIT = "git runs it, or what it names"
_SSH = "it decides who may log in, and what ssh runs"
_CRON = "it is run at set times"
_PYTHON = "Python runs it at its start"
_SB = "it decides how sb runs"
_OWN = "its program runs it at its start"
_EDITOR = "an editor obeys it when the project is opened"
_AGENT = "an agent obeys it, or runs what it names"
_HELPERS = "its program runs the commands that it names"

# Files by name, anywhere.
_NAMES = {
    **dict.fromkeys(
        (
            *(".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases", ".profile", ".kshrc"),
            *(".zshrc", ".zshenv", ".zprofile", ".zlogin", ".zlogout", ".cshrc", ".tcshrc", ".login", ".logout"),
            *(".inputrc", "bash.bashrc", ".envrc", "config.fish"),
        ),
        _SHELL,
    ),
    **dict.fromkeys((".xinitrc", ".xsession", ".xsessionrc", ".xprofile", ".xserverrc", ".pam_environment"), _SESSION),
    **dict.fromkeys((".gitconfig", ".gitmodules"), _GIT),
    **dict.fromkeys((".ssh", ".rhosts", ".shosts", ".k5login"), _SSH),
    **dict.fromkeys((".crontab", "crontab", "anacrontab"), _CRON),
    **dict.fromkeys(("usercustomize.py", "sitecustomize.py", ".pythonrc"), _PYTHON),
    **dict.fromkeys((".vimrc", ".exrc", ".gdbinit", ".emacs", ".screenrc", ".tmux.conf"), _OWN),
    **dict.fromkeys((".mcp.json", ".claude.json"), _AGENT),
    **dict.fromkeys((".npmrc", ".yarnrc.yml"), _HELPERS),
}  # fmt: skip

# Names one after the other, anywhere in a path; all that lies beneath is meant.
_RUNS = (
    ((".ssh",), _SSH),
    ((".config", "git"), _GIT),
    *(((name,), _EDITOR) for name in (".vscode", ".idea", ".zed", ".cursor", ".devcontainer")),
    *(((name,), _AGENT) for name in (".claude", ".codex", ".gemini")),
    # credential_process; exec; credHelpers; pinentry-program; runner and rustc-wrapper
    ((".aws",), _HELPERS),
    ((".kube",), _HELPERS),
    ((".docker", "config.json"), _HELPERS),
    ((".config", "containers"), _HELPERS),
    ((".gnupg",), _HELPERS),
    ((".cargo", "config"), _HELPERS),
    ((".cargo", "config.toml"), _HELPERS),
    ((".config", "fish"), _SHELL),
    ((".config", "autostart"), _SESSION),
    ((".config", "autostart-scripts"), _SESSION),
    ((".config", "environment.d"), _SESSION),
    ((".config", "plasma-workspace"), _SESSION),
    ((".config", "systemd"), _SESSION),
    ((".local", "share", "systemd"), _SESSION),
    ((".config", "sb"), _SB),
    (("etc", "sb"), _SB),
    (("etc", "profile"), _SHELL),
    (("etc", "profile.d"), _SHELL),
    (("etc", "zsh"), _SHELL),
    (("etc", "xdg", "autostart"), _SESSION),
    *(
        (("etc", name), _CRON)
        for name in ("cron.d", "cron.hourly", "cron.daily", "cron.weekly", "cron.monthly", "crontab")
    ),
    (("var", "spool", "cron"), _CRON),
    (("var", "spool", "at"), _CRON),
    *(
        (("etc", name), _SYSTEM)
        for name in (
            *("init.d", "rc.local", "rc.d", "systemd", "udev", "pam.d", "security", "sudoers", "sudoers.d"),
            *("doas.conf", "ld.so.preload", "ld.so.conf", "ld.so.conf.d", "modprobe.d", "modules-load.d"),
            *("environment", "shells"),
            *("passwd", "shadow", "group", "gshadow", "subuid", "subgid", "ssh", "apt", "tmpfiles.d", "inittab"),
        )
    ),
    (("lib", "systemd"), _SYSTEM),
    (("lib", "udev"), _SYSTEM),
)  # fmt: skip

_RUNS_FROM = {first: [each for each in _RUNS if each[0][0] == first] for (first, *_), _ in _RUNS}


def risk(change: Change) -> str:
    """Why a change is to be asked for by itself, in words; empty if it isn't."""
    after = change.after
    if after is not None and after.kind in (stat.S_IFCHR, stat.S_IFBLK):
        return "a device"
    if after is not None and after.kind == stat.S_IFREG and after.owner.mode & (stat.S_ISUID | stat.S_ISGID):
        before = change.before
        if before is None or before.owner != after.owner or DATA in change.aspects:
            return "it runs as its owner" if after.owner.mode & stat.S_ISUID else "it runs as its group"
    return _path_risk(change.path, change)


def _path_risk(path: bytes, change: Change) -> str:
    names = path.decode("utf-8", "surrogateescape").split("/")[1:]
    item = change.item
    if item.kind == stat.S_IFDIR and change.kind != DELETED:
        return ""  # what is in it has changes of its own
    if names[-1] in _NAMES:
        return _NAMES[names[-1]]
    if ".git" in names and _git_runs(names[names.index(".git") + 1 :]):
        return _GIT
    if names[-1].endswith(".pth") and "site-packages" in names:
        return _PYTHON
    for start, name in enumerate(names):
        for run, why in _RUNS_FROM.get(name, ()):
            if tuple(names[start : start + len(run)]) == run:
                return why
    return ""


def _git_runs(names: list[str]) -> bool:
    """Whether git runs what has these names in its directory; none: a file or link that stands for the directory."""
    if not names or names[-1] in ("config", "config.worktree", "commondir"):
        return True
    return "hooks" in names and not names[-1].endswith(".sample")  # the examples are never run
