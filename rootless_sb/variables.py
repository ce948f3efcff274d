"""Which of the caller's variables a sandbox on the host's view inherits: not those that hold secrets, or lead to some.

Pure. Nobody thinks of them when a script is run, and the first thing that a bad one does is `env`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# A name with one of these between its underscores is a secret's: AWS_SECRET_ACCESS_KEY, GITHUB_TOKEN.
_SECRET_WORDS = frozenset({"KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIALS", "JWT", "AUTH"})
# Passwords that are one word with something else.
_SECRET_NAMES = frozenset({"PGPASSWORD", "MYSQL_PWD", "SSHPASS", "SUDO_PASS", "RCLONE_CONFIG_PASS", "DATABASE_URL"})
# Where agents and servers of the user's session listen, which the sandbox can't reach and need not know.
_LEADS = frozenset(
    {
        "DBUS_SESSION_BUS_ADDRESS", "DBUS_STARTER_ADDRESS", "DISPLAY", "DOCKER_HOST", "GNOME_KEYRING_CONTROL",
        "GPG_AGENT_INFO", "KRB5CCNAME", "SSH_AGENT_PID", "STY", "TMUX", "WAYLAND_DISPLAY", "XAUTHORITY",
    }
)  # fmt: skip


def withheld(names: Iterable[str]) -> tuple[str, ...]:
    """Those of these names whose variables aren't inherited, sorted."""
    return tuple(sorted(filter(is_withheld, names)))


def is_withheld(name: str) -> bool:
    """Whether a variable of this name isn't inherited; capitals or not makes no difference."""
    upper = name.upper()
    return upper in _LEADS or upper in _SECRET_NAMES or not _SECRET_WORDS.isdisjoint(upper.split("_"))
