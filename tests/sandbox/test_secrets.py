"""Keys, tokens and the like of the user's, hidden unless they are shown."""

from __future__ import annotations

import os
import socket
import tempfile
from typing import TYPE_CHECKING

import pytest

from rootless_sb.secrets import SECRETS, stands_for
from tests.sandbox.running import python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sandbox.running import Sandboxes

def _and_above(name: str) -> list[str]:
    """A relative path and the directories above it."""
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


HIDDEN = (".ssh/id_ed25519", ".aws/credentials", ".netrc", ".config/gh/hosts.yml", ".claude/x", ".bash_history")


# All that issue 9 names, and what is like it.
FILES = (
    *(".ssh/id_rsa", ".gnupg/secring.gpg", ".aws/credentials", ".azure/token", ".config/gcloud/db"),
    *(".config/gh/hosts.yml", ".config/rclone/rclone.conf", ".kube/config", ".docker/config.json", ".netrc"),
    *(".git-credentials", ".pypirc", ".npmrc", ".pgpass", ".vault-token", ".cargo/credentials"),
    *(".cargo/credentials.toml", ".cache/huggingface/token"),
    *(".claude/settings.json", ".codex/auth.json", ".local/share/keyrings/login.keyring", ".mozilla/firefox/x/key4.db"),
    *(".config/google-chrome/Default/Cookies", ".config/chromium/Default/Cookies", ".bash_history", ".zsh_history"),
    *(".python_history", ".local/share/fish/fish_history", ".histfile", ".Xauthority", ".password-store/x.gpg"),
)
# The rest of the list, so that a name that is added has its control: whether it is a file or a directory is all one.
OTHERS = tuple(
    name
    for secret in SECRETS
    if secret.path.startswith("~/")
    and (name := secret.path.removeprefix("~/").replace("*", "x"))
    and not any(stands_for(secret.path, f"~/{part}") for file in FILES for part in _and_above(file))
)
SOCKETS = (
    *("bus", "docker.sock", "podman/podman.sock", "gnupg/S.gpg-agent", "ssh-agent.socket", "keyring/ssh", "wayland-0"),
    *("gcr/ssh", "systemd/private", "pulse/native", "openssh_agent"),
)


@pytest.fixture
def runtime(sb: Sandboxes, tmp_path: Path) -> Path:
    """The user's runtime directory, with sockets at which one word is to be had."""
    place = tmp_path / "r"
    place.mkdir()
    sb.environment["XDG_RUNTIME_DIR"] = str(place)
    return place


@pytest.fixture
def listening(runtime: Path) -> Iterator[list[Path]]:
    """Sockets in the runtime directory, each with somebody who listens."""
    ends = []
    for name in SOCKETS:
        (runtime / name).parent.mkdir(exist_ok=True)
        end = socket.socket(socket.AF_UNIX)
        end.bind(str(runtime / name))
        end.listen()
        ends.append(end)
    yield [runtime / name for name in SOCKETS]
    for end in ends:
        end.close()


@pytest.fixture
def home(sb: Sandboxes, tmp_path: Path) -> Path:
    """A home with secrets, and something that is none."""
    for name in (*HIDDEN, ".config/other", "notes"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"secret of {name}\n")
    sb.environment["HOME"] = str(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", HIDDEN)
def test_a_secret_is_not_there(sb: Sandboxes, home: Path, name: str) -> None:
    """The file isn't found, by its name, in a listing or by a link; with --show it is."""
    top = home / name.split("/", 1)[0] if not name.startswith(".config") else home / ".config/gh"
    script = f"cat {home}/{name}; ls -A {top.parent}; ln {home}/{name} {home}/link"
    (top.parent / "plain").touch()
    done = sb("sh", "-c", script)
    assert "secret of" not in done.stdout
    assert top.name not in done.stdout.split()
    assert "plain" in done.stdout.split()
    assert done.stderr.count("No such file or directory") >= 2
    assert f"secret of {name}\n" == sb("--show", str(top), "cat", f"{home}/{name}").stdout


def test_all_of_them(sb: Sandboxes, tmp_path: Path) -> None:
    """No secret of the list in a home can be read, and with --show of each all can."""
    sb.environment["HOME"] = str(tmp_path)
    for name in (*FILES, *OTHERS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{name}\n")
    read = ("--", "cat", *(str(tmp_path / name) for name in (*FILES, *OTHERS)))
    assert "" == sb(*read).stdout
    shown = [option for secret in SECRETS if secret.path.startswith("~/") for option in ("--show", secret.path)]
    shown = [option.replace("~", str(tmp_path)) for option in shown]
    assert [*FILES, *OTHERS] == sb(*shown, *read).stdout.splitlines()


def test_tickets_of_kerberos(sb: Sandboxes) -> None:
    """Those of the user in /tmp aren't there; with --show they are."""
    with tempfile.NamedTemporaryFile(prefix=f"krb5cc_{os.getuid()}_", dir="/tmp") as cache:
        assert "" == sb("ls", cache.name).stdout
        assert f"{cache.name}\n" == sb("--show", cache.name, "ls", cache.name).stdout


def test_sockets(sb: Sandboxes, runtime: Path, listening: list[Path]) -> None:
    """Sockets of programs that obey aren't there; those that are shown, by themselves or with their directory, answer.
    """
    script = f"""
    import socket
    for path in {[str(path) for path in listening]!r}:
        try:
            socket.socket(socket.AF_UNIX).connect(path)
            print(path.removeprefix({str(runtime)!r}))
        except FileNotFoundError:
            pass
        except OSError as error:
            print(error)
    """
    assert [] == python(sb, script)
    shown = ("bus", "podman", "wayland-0")
    options = [option for name in shown for option in ("--show", str(runtime / name))]
    assert ["/bus", "/podman/podman.sock", "/wayland-0"] == python(sb, script, *options)


def test_what_is_no_secret_is_there(sb: Sandboxes, home: Path) -> None:
    """Beside the hidden ones, all is as it was."""
    assert "secret of notes\nsecret of .config/other\n" == sb("cat", f"{home}/notes", f"{home}/.config/other").stdout


def test_one_of_its_own_can_be_made(sb: Sandboxes, home: Path) -> None:
    """A sandbox may have a key of its own at a hidden place; the user's stays as it is."""
    script = f"mkdir {home}/.ssh && echo mine >{home}/.ssh/id_ed25519 && cat {home}/.ssh/id_ed25519; ls -A {home}/.ssh"
    assert "mine\nid_ed25519\n" == sb("sh", "-c", script).stdout
    assert "secret of .ssh/id_ed25519\n" == (home / ".ssh/id_ed25519").read_text()


def test_part_of_a_secret(sb: Sandboxes, home: Path) -> None:
    """A file in a hidden directory can't be shown alone; the hint says what can."""
    refused = sb("--show", f"{home}/.ssh/config", "true")
    assert (125, True) == (refused.returncode, f"hint: --show {home}/.ssh\n" in refused.stderr)


def test_what_was_looked_up_is_named_once(sb: Sandboxes, home: Path) -> None:
    """At the end, with the option that shows it; not what is only listed, nor a history, nor with -q or --show."""
    script = f"cat {home}/.ssh/id_ed25519; cat {home}/.ssh/id_ed25519; ls -A {home}; cat {home}/.bash_history; true"
    told = "sb: hidden: ~/.ssh (--show ~/.ssh)\n"
    assert [told] == notes(sb("sh", "-c", script).stderr)
    assert [] == notes(sb("-q", "sh", "-c", script).stderr)
    assert [] == notes(sb("--show", str(home / ".ssh"), "sh", "-c", script).stderr)
    assert [] == notes(sb("ls", "-AR", str(home)).stderr)


def test_many_that_were_looked_up(sb: Sandboxes, home: Path) -> None:
    """A few are named and the others counted; a file of a pattern has its own name; a hard link is named by what it is
    a link into."""
    (home / ".cargo").mkdir()
    (home / ".cargo/credentials.toml").touch()
    assert ["sb: hidden: ~/.cargo/credentials.toml (--show ~/.cargo/credentials.toml)\n"] == notes(
        sb("cat", f"{home}/.cargo/credentials.toml").stderr
    )
    (home / "link").hardlink_to(home / ".ssh/id_ed25519")
    assert ["sb: hidden: ~/.ssh (--show ~/.ssh)\n"] == notes(sb("cat", f"{home}/link").stderr)
    script = f"cat {' '.join(f'{home}/{name}' for name in HIDDEN)}"
    assert ["sb: hidden: ~/.ssh, ~/.aws, ~/.netrc and 2 more (--show PATH)\n"] == notes(sb("sh", "-c", script).stderr)


def notes(errors: str) -> list[str]:
    """The lines that tell of what is hidden."""
    return [line for line in errors.splitlines(keepends=True) if line.startswith("sb: hidden:")]
