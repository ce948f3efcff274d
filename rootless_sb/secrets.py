"""What of the host no sandbox sees unless it is shown: keys, tokens, histories, and sockets of programs that obey.

Pure. Each has its reason. `~` is the home, `$RUNTIME` the user's runtime directory ($XDG_RUNTIME_DIR), `$UID` the
user's id; `*` in the last name stands for any characters.
"""

from __future__ import annotations

import fnmatch
import os
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError

if TYPE_CHECKING:
    from collections.abc import Iterable


class Secret(NamedTuple):
    """A path that is hidden, and why. `missed`: whoever looks it up is told of it; not of what programs look up at each
    start and can do without.
    """

    path: str
    reason: str
    missed: bool = True


_KEYS = "keys to other machines"
_CLOUD = "credentials of a cloud's account"
_REGISTRY = "tokens that publish packages or images"
_DATABASE = "passwords of databases"
_AGENT = "an account's token, and what was said to an agent"
_BROWSER = "cookies and passwords of a browser"
_KEYRING = "a keyring"
_WALLET = "a wallet"
_HISTORY = "what was typed, passwords by mistake included"
_OBEYS = "the socket of a program that does as it is told, with your rights"

SECRETS = (
    Secret("~/.ssh", _KEYS),
    Secret("~/.gnupg", "private keys, and their agent's socket"),
    Secret("~/.aws", _CLOUD),
    Secret("~/.azure", _CLOUD),
    Secret("~/.config/gcloud", _CLOUD),
    Secret("~/.config/doctl", _CLOUD),
    Secret("~/.config/hcloud", _CLOUD),
    Secret("~/.oci", _CLOUD),
    Secret("~/.boto", _CLOUD),
    Secret("~/.s3cfg", _CLOUD),
    Secret("~/.databrickscfg", _CLOUD),
    Secret("~/.fly", _CLOUD),
    Secret("~/.terraform.d/credentials.tfrc.json", _CLOUD),
    Secret("~/.config/gh", "a token of GitHub's"),
    Secret("~/.config/hub", "a token of GitHub's"),
    Secret("~/.config/glab-cli", "a token of GitLab's"),
    Secret("~/.config/rclone", "accounts of remote storage"),
    Secret("~/.kube", "credentials of clusters"),
    Secret("~/.docker/config.json", _REGISTRY),
    Secret("~/.config/containers/auth.json", _REGISTRY),
    Secret("$RUNTIME/containers/auth.json", _REGISTRY),
    Secret("~/.netrc", "passwords of any host"),
    Secret("~/.git-credentials", "passwords of git servers"),
    Secret("~/.config/git/credentials", "passwords of git servers"),
    Secret("~/.pypirc", _REGISTRY),
    Secret("~/.npmrc", _REGISTRY),
    Secret("~/.yarnrc.yml", _REGISTRY),
    Secret("~/.cargo/credentials*", _REGISTRY),
    Secret("~/.gem/credentials", _REGISTRY),
    Secret("~/.m2/settings*.xml", _REGISTRY),
    Secret("~/.gradle/gradle.properties", _REGISTRY),
    Secret("~/.composer/auth.json", _REGISTRY),
    Secret("~/.config/composer/auth.json", _REGISTRY),
    Secret("~/.bundle/config", _REGISTRY),
    Secret("~/.pgpass", _DATABASE),
    Secret("~/.my.cnf", _DATABASE),
    Secret("~/.vault-token", "a token that opens other secrets"),
    Secret("~/.config/sops", "keys that open other secrets"),
    Secret("~/.config/age", "keys that open other secrets"),
    Secret("~/.vault_pass*", "what opens the vaults of ansible"),
    Secret("~/.password-store", "passwords"),
    Secret("~/.config/op", "passwords"),
    Secret("~/.config/Bitwarden*", "passwords"),
    Secret("~/.cache/huggingface/token", "an account's token"),
    Secret("~/.huggingface", "an account's token"),
    Secret("~/.kaggle", "an account's token"),
    Secret("~/.claude", _AGENT),
    Secret("~/.claude.json", _AGENT),
    Secret("~/.codex", _AGENT),
    Secret("~/.gemini", _AGENT),
    Secret("~/.config/github-copilot", _AGENT),
    Secret("~/.codeium", _AGENT),
    Secret("~/.local/share/keyrings", _KEYRING),
    Secret("~/.local/share/kwalletd", _KEYRING),
    Secret("~/.local/share/python_keyring", _KEYRING),
    Secret("~/.bitcoin", _WALLET),
    Secret("~/.electrum", _WALLET),
    Secret("~/.ethereum", _WALLET),
    Secret("~/.mozilla", _BROWSER),
    Secret("~/.thunderbird", "mail and its passwords"),
    Secret("~/.config/google-chrome*", _BROWSER),
    Secret("~/.config/chromium", _BROWSER),
    Secret("~/.config/BraveSoftware", _BROWSER),
    Secret("~/.config/microsoft-edge*", _BROWSER),
    Secret("~/.config/vivaldi", _BROWSER),
    Secret("~/.config/opera", _BROWSER),
    Secret("~/snap/firefox", _BROWSER),
    Secret("~/snap/chromium", _BROWSER),
    Secret("~/.var/app/org.mozilla.firefox", _BROWSER),
    Secret("~/.var/app/com.google.Chrome", _BROWSER),
    Secret("~/.*_history", _HISTORY, missed=False),
    Secret("~/.history", _HISTORY, missed=False),
    Secret("~/.histfile", _HISTORY, missed=False),
    Secret("~/.lesshst", _HISTORY, missed=False),
    Secret("~/.viminfo", _HISTORY, missed=False),
    Secret("~/.local/share/fish/fish_history", _HISTORY, missed=False),
    Secret("~/.local/share/atuin", _HISTORY, missed=False),
    Secret("/tmp/krb5cc_$UID*", "tickets of Kerberos"),
    Secret("$RUNTIME/krb5cc*", "tickets of Kerberos"),
    Secret("$RUNTIME/bus", _OBEYS),
    Secret("$RUNTIME/systemd", _OBEYS),
    Secret("$RUNTIME/docker.sock", _OBEYS),
    Secret("$RUNTIME/podman", _OBEYS),
    Secret("$RUNTIME/gnupg", _OBEYS),
    Secret("$RUNTIME/keyring", _OBEYS),
    Secret("$RUNTIME/ssh-agent*", _OBEYS),
    Secret("$RUNTIME/openssh_agent", _OBEYS),
    Secret("$RUNTIME/gcr", _OBEYS),
    Secret("$RUNTIME/wayland-*", _OBEYS),
    Secret("$RUNTIME/pulse", _OBEYS),
    Secret("$RUNTIME/pipewire-*", _OBEYS),
    Secret("$RUNTIME/tmux-$UID", _OBEYS),
    Secret("/tmp/tmux-$UID", _OBEYS),
    Secret("/tmp/ssh-*", _OBEYS),
    Secret("/tmp/.X11-unix", _OBEYS),
    Secret("/tmp/.ICE-unix", _OBEYS),
    Secret("~/.Xauthority", "what opens the X server"),
    Secret("~/.docker/run", _OBEYS),
    Secret("~/.docker/desktop", _OBEYS),
    Secret("/run/docker.sock", _OBEYS),
    Secret("/run/podman", _OBEYS),
    Secret("/run/containerd", _OBEYS),
    Secret("/run/dbus", _OBEYS),
)


class Owner(NamedTuple):
    """Whose secrets they are: an absolute home, an absolute runtime directory, an id."""

    home: str
    runtime: str
    uid: int


def hidden(owner: Owner, shown: Iterable[str]) -> tuple[Secret, ...]:
    """What is hidden, by absolute paths, some with a `*` in the last name, without what is shown: by its own path, by
    one that the `*` stands for, or by one above. Raises SbError for a path that lies in a hidden one.
    """
    secrets = {(path := _absolute(secret.path, owner)): secret._replace(path=path) for secret in SECRETS}
    wanted = [os.path.normpath(path) for path in shown]
    for path in wanted:
        above = next((each for each in secrets if _is_beneath(path, each)), None)
        if above is not None:
            raise SbError(f"--show {path}", f"{above} is hidden as a whole", f"--show {above}")
    return tuple(secret for path, secret in secrets.items() if not any(_shows(each, path) for each in wanted))


def _absolute(path: str, owner: Owner) -> str:
    places = {"~/": f"{owner.home.rstrip('/')}/", "$RUNTIME/": f"{owner.runtime.rstrip('/')}/"}
    for sign, place in places.items():
        if path.startswith(sign):
            path = place + path.removeprefix(sign)
    return path.replace("$UID", str(owner.uid))


def stands_for(pattern: str, path: str) -> bool:
    """Whether a path, whose last name may have a `*`, stands for another path."""
    place, _, name = pattern.rpartition("/")
    other, _, last = path.rpartition("/")
    return place == other and fnmatch.fnmatchcase(last, name)


def _shows(path: str, secret: str) -> bool:
    return stands_for(secret, path) or path == "/" or secret.startswith(f"{path}/")


def _is_beneath(path: str, secret: str) -> bool:
    above = os.path.dirname(path)
    while above not in ("", "/"):
        if stands_for(secret, above):
            return True
        above = os.path.dirname(above)
    return False
