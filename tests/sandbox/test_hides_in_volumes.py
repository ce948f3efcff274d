"""What is hidden stays so where a volume brings it in: something empty lies over it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with two things to hide, a symbolic link to one of them, and one to see."""
    directory = tmp_path / "project"
    (directory / "keys").mkdir(parents=True)
    for name in ("keys/private", "token", "plain"):
        (directory / name).write_text(f"content of {name}\n")
    (directory / "link").symlink_to("keys")
    return directory


READ = "cd /v; cat keys/private link/private token plain; ls -A keys"


@pytest.mark.parametrize("place", ["", "/v"])
def test_hides_in_a_volume(sb: Sandboxes, project: Path, place: str) -> None:
    """By their path on the host or inside, files are empty and directories too; without --hide all is there."""
    hides = [f"--hide={place or project}/{name}" for name in ("keys", "tok*")]
    hidden = sb("-q", "-v", f"{project}:/v", *hides, "--", "sh", "-c", READ)
    assert "content of plain\n" == hidden.stdout
    shown = sb("-q", "-v", f"{project}:/v", "--", "sh", "-c", READ)
    expected = "".join(f"content of {name}\n" for name in ("keys/private", "keys/private", "token", "plain"))
    assert f"{expected}private\n" == shown.stdout


def test_a_symbolic_link_leads_to_what_is_hidden(sb: Sandboxes, project: Path, tmp_path: Path) -> None:
    """A hidden path that is a link, or goes through one, hides what it leads to in the volume."""
    (tmp_path / "elsewhere").symlink_to(project)
    hides = [f"--hide={tmp_path}/elsewhere/{name}" for name in ("link", "token")]
    assert "content of plain\n" == sb("-q", "-v", f"{project}:/v", *hides, "--", "sh", "-c", READ).stdout


@pytest.mark.parametrize("nested", [(), ("--nested",)])
def test_the_sandbox_cannot_uncover_it(sb: Sandboxes, project: Path, nested: tuple[str, ...]) -> None:
    """It can't be unmounted, removed, renamed, written or bound elsewhere; what isn't hidden can be renamed."""
    script = """cd /v; umount $0; mount -o remount,rw,bind $0; rm -rf $0; mv $0 moved; mv $0 /tmp/moved; ln $0 /v/other
    echo x >$0 || echo x >$0/new; mkdir -p /b; mount --bind /v /b; cat moved other /b/keys/private /b/token; true"""
    hides = [f"--hide={project}/{name}" for name in ("keys", "token")]
    for name, content in (("keys/private", "keys"), ("token", "token")):
        result = sb("-q", *nested, "-v", f"{project}:/v", *hides, "--", "sh", "-c", script, content)
        assert "" == result.stdout
        assert f"content of {name}\n" == (project / name).read_text()
    assert ["keys", "link", "plain", "token"] == sorted(path.name for path in project.iterdir())
    moved = sb("-q", "-v", f"{project}:/v", "--", "sh", "-c", "mv /v/plain /v/x; cat /v/x")
    assert "content of plain\n" == moved.stdout


def test_secrets_and_sbs_own_files(sb: Sandboxes, tmp_path: Path) -> None:
    """A volume of the home shows neither keys nor kept sandboxes; --show brings the keys back."""
    for name in (".ssh/id", "data/sb/sandboxes/x"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(f"{name}\n")
    sb.environment |= {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    look = ("-v", f"{tmp_path}:/home/me", "--", "sh", "-c", "cd /home/me; cat .ssh/id data/sb/sandboxes/x")
    assert "" == sb("-q", *look).stdout
    assert ".ssh/id\n" == sb("-q", "--show", str(tmp_path / ".ssh"), *look).stdout


@pytest.mark.parametrize("way", ["link", "linked home", "link in a linked home"])
def test_no_link_leads_to_sbs_own_files(sb: Sandboxes, tmp_path: Path, way: str) -> None:
    """A volume is what its path leads to, also where the home does; what lies beside it is a volume like others."""
    home = tmp_path / "home"
    for name in ("data/sb/sandboxes", "data/other"):
        (home / name).mkdir(parents=True)
        (home / name / "x").write_text("x\n")
    (tmp_path / "me").symlink_to(home)
    (tmp_path / "project").symlink_to(home / "data")
    seen = tmp_path / "me" if "home" in way else home
    sb.environment |= {"HOME": str(seen), "XDG_DATA_HOME": str(seen / "data")}
    source = tmp_path / "project" if "link" in way.split() else home / "data"
    for name in ("sb", "sb/sandboxes", "sb/sandboxes/x"):
        refused = sb("-q", "-v", f"{source}/{name}:/v", "--", "true")
        assert (125, True) == (refused.returncode, f"--volume {source}/{name}: no sandbox may" in refused.stderr)
    assert "x\n" == sb("-q", "-v", f"{source}/other:/v", "--", "cat", "/v/x").stdout


def test_what_is_asked_for_by_name_is_there(sb: Sandboxes, project: Path, tmp_path: Path) -> None:
    """A volume of the hidden thing itself shows it, also within another; one that is to lie in it says why it can't."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/private").write_text("mine\n")
    keys = f"--hide={project}/keys"
    own = sb("-q", keys, "-v", f"{project}/keys:/k", "--", "cat", "/k/private")
    assert "content of keys/private\n" == own.stdout
    over = ("-v", f"{project}:/v", "-v", f"{tmp_path}/mine:/v/keys")
    assert "mine\n" == sb("-q", keys, *over, "--", "cat", "/v/keys/private").stdout
    beneath = sb("-q", keys, "-v", f"{project}:/v", "-v", f"{tmp_path}/mine/private:/v/keys/private", "--", "true")
    assert 125 == beneath.returncode
    assert f"cannot mount anything in {project}/keys: it is hidden" in beneath.stderr


def test_a_read_only_path_does_not_bring_it_back(sb: Sandboxes, project: Path) -> None:
    """What is hidden and read-only is hidden; what is read-only beside it can be read."""
    options = (f"--hide={project}/keys", *(f"--read-only-path=/v/{name}" for name in ("keys", "keys/private", "plain")))
    volume = ("-q", "-v", f"{project}:/v")
    assert "content of plain\n" == sb(*volume, *options, "cat", "/v/keys/private", "/v/plain").stdout
    whole = ("--read-only-path=/v", f"--hide={project}/keys/private")
    assert "private\n" == sb(*volume, *whole, "sh", "-c", "cat /v/keys/*; ls /v/keys; touch /v/x").stdout


def test_inspect_says_what_is_not_held(sb: Sandboxes, project: Path, tmp_path: Path) -> None:
    """Limits and records end at a volume, and the sandbox's description says which and where."""
    options = ("--disk", "8m", "--audit", str(tmp_path / "log"))
    for name, volumes in (("plain", ()), ("bound", ("-v", f"{project}:/v"))):
        assert 0 == sb("-q", "--name", name, *options, *volumes, "--", "true").returncode
    described = [json.loads(sb.command("inspect", name).stdout)["sandboxes"][0] for name in ("plain", "bound")]
    said = [[line.partition(":")[0] for line in each["not_held"]] for each in described]
    assert [[], ["--disk", "--audit", "what runs by itself", "--hide"]] == said
    assert all("/v" in line for line in described[1]["not_held"])
