"""Files that run without being asked for: what git, shells, editors and agents obey once somebody works beside them.

Pure. Within a volume that can be written to they stay as they are, and aren't made: what a sandbox writes there is on
the host at once, where the next `git status` or the next shell would run it. `review.risks` judges changes of a layer.
"""

from __future__ import annotations

from fuse_overlay.tuples import NamedTuple

# What stands there meanwhile where nothing is. git lists no sockets, so none is committed; a link that leads nowhere is
# to whoever reads it as if nothing were there (bash takes the first of three profiles that is, whatever it is).
SOCKET, LINK, FILE, DIRECTORY = "s", "l", "f", "d"


class Unasked(NamedTuple):
    """A file or directory by its path in a project or in a home, and who obeys it.

    `kind`: what stands there where nothing is; of a FILE, `content` is what it says. `parents`: the directories above
    it are made where they are missing; else the first that is missing isn't made either.
    """

    path: str
    reason: str
    kind: str = SOCKET
    content: bytes = b""
    parents: bool = False


_GIT = "git runs it, or what it names"
_EDITOR = "an editor obeys it when the project is opened"
_AGENT = "an agent obeys it, or runs what it names"
_SHELL = "a shell runs it at its start"
_SESSION = "it is run when a session begins"
_OWN = "its program runs it at its start"

# In git's own directory. `commondir` says where the other two are looked for (gitrepository-layout(5)): `.` is here.
GIT = (
    Unasked("config", _GIT),
    Unasked("config.worktree", _GIT, FILE),
    Unasked("commondir", _GIT, FILE, b".\n"),
    Unasked("hooks", _GIT),
)

PROJECT = (
    *(each._replace(path=f".git/{each.path}") for each in GIT),
    Unasked(".envrc", _SHELL),
    *(Unasked(name, _EDITOR) for name in (".vscode", ".idea", ".zed", ".cursor", ".devcontainer")),
    *(Unasked(name, _AGENT) for name in (".claude", ".codex", ".gemini", ".mcp.json")),
)

_RC = (
    *(".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases", ".profile", ".kshrc", ".inputrc"),
    *(".zshrc", ".zshenv", ".zprofile", ".zlogin", ".zlogout", ".cshrc", ".tcshrc", ".login", ".logout"),
)
_SESSIONS = (".xinitrc", ".xsession", ".xsessionrc", ".xprofile", ".pam_environment")
_PROGRAMS = (".vimrc", ".exrc", ".gdbinit", ".emacs", ".screenrc", ".tmux.conf", ".pythonrc")

_IN_HOME = (
    *((name, _SHELL) for name in (*_RC, ".config/fish")),
    *((name, _SESSION) for name in _SESSIONS),
    *((f".config/{name}", _SESSION) for name in ("autostart", "environment.d", "systemd")),
    (".local/share/systemd", _SESSION),
    *((name, _OWN) for name in _PROGRAMS),
    *((name, _GIT) for name in (".gitconfig", ".config/git")),
    (".ssh", "it decides who may log in, and what ssh runs"),
    *((name, _AGENT) for name in (".claude.json", ".claude", ".codex", ".gemini")),
    (".config/sb", "it decides how sb runs"),
)
HOME = tuple(Unasked(path, reason, LINK, parents=True) for path, reason in _IN_HOME)


def first_name(path: str) -> str:
    """The first component of a path."""
    return path.partition("/")[0]
