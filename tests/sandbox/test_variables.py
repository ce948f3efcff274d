"""The environment on the host's view: inherited, but for secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sandbox.running import store

if TYPE_CHECKING:
    from tests.sandbox.running import Sandboxes

CALLERS = {"DEPLOY_TOKEN": "hush", "SSH_AUTH_SOCK": "/tmp/agent", "PLAIN": "seen"}


def test_secrets_do_not_come_along(sb: Sandboxes) -> None:
    """Neither the command nor any process of the sandbox has them, nor what is written down of it; -e brings one in."""
    script = "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'"
    shown = sb("--name", "box", "--", "sh", "-c", script, variables=CALLERS).stdout
    assert ("PLAIN=seen" in shown, "hush" in shown, "/tmp/agent" in shown) == (True, False, False)
    assert "hush" not in sb.command("inspect", "box").stdout
    assert [] == written(sb, b"hush")
    given = ("--name", "given", "-e", "DEPLOY_TOKEN", "--", "sh", "-c", "echo $DEPLOY_TOKEN")
    assert "hush\n" == sb(*given, variables=CALLERS).stdout
    assert "hush" in sb.command("inspect", "given").stdout
    assert ["state"] == written(sb, b"hush")


def written(sb: Sandboxes, text: bytes) -> list[str]:
    """The names of the files with this text in what sb keeps of its sandboxes."""
    return [path.name for path in store(sb).rglob("*") if path.is_file() and text in path.read_bytes()]


def test_what_is_withheld_is_said(sb: Sandboxes) -> None:
    """--verbose names them."""
    assert "DEPLOY_TOKEN" in sb("--verbose", "true", variables=CALLERS).stderr
