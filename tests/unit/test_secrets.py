"""What is hidden by default, and what `--show` takes back."""

from __future__ import annotations

import pytest

from rootless_sb import secrets
from rootless_sb.errors import SbError

OWNER = secrets.Owner("/home/ann", "/run/user/7", 7)


def hidden(*shown: str) -> set[str]:
    """The paths that are hidden when these are shown."""
    return {secret.path for secret in secrets.hidden(OWNER, shown)}


def test_each_has_its_reason() -> None:
    """No path is there twice, and each lies somewhere definite."""
    paths = [secret.path for secret in secrets.SECRETS]
    assert len(paths) == len(set(paths))
    assert all(secret.reason for secret in secrets.SECRETS)
    assert all(path.startswith("/") for path in hidden())
    assert {"/home/ann/.ssh", "/tmp/krb5cc_7*", "/run/user/7/bus"} <= hidden()


@pytest.mark.parametrize("shown", ["/home/ann/.ssh", "/home/ann", "/", "/home/ann/x/../.ssh"])
def test_what_is_shown_is_not_hidden(shown: str) -> None:
    """By its own path, or by one above."""
    assert "/home/ann/.ssh" not in hidden(shown)
    assert "/run/docker.sock" in hidden("/home/ann/.ssh")


def test_a_star_stands_for_one_name() -> None:
    """What it stands for shows it; a path deeper down doesn't."""
    assert "/home/ann/.cargo/credentials*" not in hidden("/home/ann/.cargo/credentials.toml")
    assert "/home/ann/.*_history" in hidden("/home/ann/.d/x_history")


def test_a_part_of_what_is_hidden() -> None:
    """A path in a hidden directory can't be shown by itself: the hint says what can."""
    with pytest.raises(SbError) as caught:
        secrets.hidden(OWNER, ["/home/ann/.ssh/config"])
    assert "--show /home/ann/.ssh" == caught.value.hint


@pytest.mark.parametrize(
    "path",
    [
        *("/run/docker.sock", "/run/podman", "/run/dbus", "/tmp/tmux-7", "/tmp/ssh-*", "/tmp/.X11-unix"),
        *("/run/user/7/bus", "/run/user/7/gnupg", "/run/user/7/wayland-*", "/run/user/7/docker.sock"),
    ],
)
def test_sockets(path: str) -> None:
    """Where programs listen that obey whoever connects."""
    assert path in hidden()
