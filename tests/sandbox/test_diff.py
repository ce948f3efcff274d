"""`sb diff`: what a sandbox changed, from its layer alone."""

from __future__ import annotations

import base64
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from fuse_overlay.config import Config, Lower
from fuse_overlay.tree import Tree
from rootless_sb.review import merged
from rootless_sb.review.layer import DESCRIPTORS
from tests.sandbox.reviewing import change, changes, diff
from tests.sandbox.running import PATIENCE, SB, stdout_until, tell

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory of the host's with a bit of everything."""
    (tmp_path / "file").write_text("one\ntwo\n")
    (tmp_path / "other").write_text("other\n")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory/inner").write_text("inner\n")
    (tmp_path / "directory/second").write_text("second\n")
    (tmp_path / "link").symlink_to("file")
    return tmp_path


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo x >new; mkdir d; echo y >d/e", ["A d", "A d/e", "A new"]),
        ("echo three >>file", ["C file"]),
        ("chmod 600 file; chmod 700 directory", ["C directory", "C file"]),
        ("chown 5 file", ["C file"]),
        ("setfattr -n user.x -v 1 file", ["C file"]),
        ("rm file; mkdir file", ["C file"]),
        ("rm -r directory; echo x >directory", ["C directory"]),
        ("ln -sfn other link", ["C link"]),
        ("rm file; rm -r directory", ["D directory", "D file"]),
        ("mv file moved", ["D file", "A moved"]),
        ("mv directory moved", ["D directory", "A moved", "A moved/inner", "A moved/second"]),
        (
            "rm -r directory; mkdir directory; echo x >directory/new",
            ["D directory/inner", "A directory/new", "D directory/second"],
        ),
        ("ln file hard", ["A hard"]),
        ("mkfifo pipe", ["A pipe"]),
    ],
)
def test_each_kind_of_change(sb: Sandboxes, host: Path, script: str, expected: list[str]) -> None:
    """Data, mode, owner, attributes, type, names: each is listed once, by path, and nothing else."""
    change(sb, host, script)
    assert expected == diff(sb, host)


@pytest.mark.parametrize(
    "script",
    [
        "true",
        "touch file directory link",
        "cat file >copy; cat copy >file; rm copy",
        "cp file copy; mv copy file",
        "chmod 600 file; chmod 644 file",
        "mv directory d; mv d directory",
        "rm link; ln -s file link",
        "echo x >new; rm new; mkdir d; rmdir d",
        "setfattr -n user.x -v 1 file; setfattr -x user.x file",
    ],
)
def test_what_is_no_change(sb: Sandboxes, host: Path, script: str) -> None:
    """What is as it was, isn't listed, whatever was done to it: times don't count."""
    change(sb, host, script)
    assert [] == diff(sb, host)
    assert [] == changes(sb)


def test_in_a_directory_that_was_made_anew(sb: Sandboxes, host: Path) -> None:
    """What was in its directories is deleted, at any depth, though they have been made again."""
    (host / "directory/a/b").mkdir(parents=True)
    for name in ("a", "a/b"):
        (host / "directory" / name / "old").write_text("old\n")
    change(sb, host, "rm -r directory; mkdir -p directory/a/b; echo x >directory/a/b/new")
    shown = diff(sb, host)
    assert ["D directory/a/old", "A directory/a/b/new", "D directory/a/b/old"] == sorted(
        (line for line in shown if "/a/" in line), key=lambda line: (line.count("/"), line)
    )


def test_in_json(sb: Sandboxes, host: Path) -> None:
    """Kind, path, type and size of each, and in what a file has changed; bytes that aren't UTF-8 in base64."""
    change(sb, host, "echo three >file; chmod 600 file; rm other; mkdir d; printf 12345 >$'d/\\xff'")
    described = {each.pop("path", None): each for each in changes(sb)}
    raw = base64.b64encode(os.fsencode(f"{host}/d/") + b"\xff").decode()
    assert {
        f"{host}/d": {"kind": "A", "type": "directory", "size": 0},
        None: {"kind": "A", "path_b64": raw, "type": "file", "size": 5},
        f"{host}/file": {"kind": "C", "type": "file", "size": 6, "changed": ["data", "mode"]},
        f"{host}/other": {"kind": "D", "type": "file", "size": 6},
    } == described


def test_names_are_no_commands_to_the_terminal(sb: Sandboxes, host: Path) -> None:
    """Newlines and escape codes are escaped, in every form but -z, which has names as they are."""
    change(sb, host, "touch $'a\\nb' $'c\\e[31md'")
    assert ["A a\\x0ab", "A c\\x1b[31md"] == diff(sb, host)
    for form in ("--tree", "--stat", "--patch", "--json"):
        assert "\x1b" not in sb.command("diff", form, "box").stdout
    assert f"A {host}/a\nb\0A {host}/c\x1b[31md\0" == sb.command("diff", "-z", "box").stdout


def test_a_patch_makes_the_same_of_the_same(
    sb: Sandboxes, host: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """git applies what --patch prints: text, modes, links, deletions, odd names, no newline at the end."""
    copy = tmp_path_factory.mktemp("copy")
    subprocess.run(["cp", "-a", f"{host}/.", copy], check=True)
    script = "echo three >>file; chmod 755 file; rm other; printf 'no end' >new; ln -sf other link"
    script += "; echo x >$'odd\\n\"\\\\\u00e4'"
    change(sb, host, script)
    patch = sb.command("diff", "--patch", "box").stdout.replace(f"{host}/", "/").replace(f"{host}\\", "\\")
    subprocess.run(["git", "apply", "-"], input=patch, cwd=copy, text=True, check=True)
    assert "one\ntwo\nthree\n" == (copy / "file").read_text()
    assert 0o755 == (copy / "file").stat().st_mode & 0o777
    assert ["directory", "file", "link", "new", 'odd\n"\\\u00e4'] == sorted(os.listdir(copy))
    assert ("no end", "other") == ((copy / "new").read_text(), os.readlink(copy / "link"))


def test_as_a_tree_and_with_numbers(sb: Sandboxes, host: Path) -> None:
    """--tree indents, with sizes; --stat counts the lines that came and went."""
    change(sb, host, "echo three >>file; mkdir -p d/e; printf 12345 >d/e/f; rm other")
    tree = sb.command("diff", "--tree", "box").stdout
    assert (
        f"  {host}/  (19 B)\nA   d/  (5 B)\nA     e/  (5 B)\nA       f  (5 B)\nC   file  (data, 14 B)\nD   other\n"
        == tree
    )
    *_, added, changed, deleted, total = diff(sb, host, "--stat")
    assert ["+1 -0", "+1 -0", "+0 -1"] == [each.partition(" | ")[2] for each in (added, changed, deleted)]
    assert "3 added, 1 changed, 1 deleted (19 B)" == total


def test_of_a_sandbox_that_runs(sb: Sandboxes, host: Path) -> None:
    """What is in the layer by now is listed."""
    run = sb.start("--name", "box", "-w", str(host), "--", "sh", "-c", "mkdir made; echo ready; read line")
    stdout_until(run, b"ready\n")
    assert ["A made"] == diff(sb, host)
    tell(run, "\n")
    run.communicate(timeout=PATIENCE)


def test_mountpoints_are_no_changes(sb: Sandboxes, host: Path) -> None:
    """What sb makes to mount something on is nothing that the command did, unless it has changed it, or something in
    it.
    """
    volumes = ("-v", f"{host}/file:{host}/new/deep/file", "-v", f"{host}/directory:{host}/directory/volume")
    mounts = (*volumes, "--tmpfs", f"{host}/scratch", "-w", str(host))
    for name, script in (("idle", "echo x >scratch/x"), ("box", "echo x >new/other; chmod 700 new/deep")):
        done = sb("--name", name, "-q", *mounts, "--", "sh", "-ec", script)
        assert (0, "") == (done.returncode, done.stderr)
    assert [] == diff(sb, host, name="idle")
    assert ["A new", "A new/deep", "A new/other"] == diff(sb, host)
    assert 0 == sb.command("apply", "box").returncode
    assert ["deep", "other"] == sorted(os.listdir(host / "new"))
    assert not (host / "scratch").exists()


def test_where_a_mountpoint_is(host: Path) -> None:
    """Where symbolic links lead within the tree; what isn't there stays as it was named."""
    (host / "way").symlink_to("/directory")
    tree = Tree(Config((Lower(os.fsencode(host), layer=False, live=True),)), DESCRIPTORS)
    found = [merged.real_path(tree, path) for path in (b"/way/../way/new/deep", b"/nowhere/new", b"/way/inner", b"/")]
    assert [b"/directory/new/deep", b"/nowhere/new", b"/directory/inner", b"/"] == found
    tree.close()


def test_over_another_root(sb: Sandboxes, host: Path) -> None:
    """With --rootfs it is that directory that was changed; one that is gone is an error with its path."""
    root = host / "root"
    for name in ("bin", "etc"):  # /proc and the like are made, which is no change either
        (root / name).mkdir(parents=True)
    subprocess.run(["cp", "/bin/busybox", root / "bin/sh"], check=True)
    assert 0 == sb("--rootfs", str(root), "--name", "box", "--", "/bin/sh", "-c", "echo x >/etc/new").returncode
    assert ["A /etc/new"] == sb.command("diff", "box").stdout.splitlines()
    root.rename(host / "moved")
    gone = sb.command("diff", "box")
    assert 125 == gone.returncode
    assert f"sb: cannot open {root}: No such file or directory\n" == gone.stderr


def test_a_sandbox_that_is_not_there(sb: Sandboxes, host: Path) -> None:
    """The error names the nearest one."""
    change(sb, host, "true", name="build")
    unknown = sb.command("diff", "bulid")
    assert 125 == unknown.returncode
    assert unknown.stderr.startswith("sb: there is no sandbox bulid\n\nhint: did you mean build?")


def test_too_many_arguments(sb: Sandboxes) -> None:
    """An argument more is called that, and not an option."""
    done = sb.command("diff", "box", "extra")
    assert (125, "sb: unexpected argument extra\n\nhint: sb diff --help\n") == (done.returncode, done.stderr)


@pytest.mark.parametrize("words", [("diff",), ("diff", "--patch"), ("export",)])
def test_a_reader_that_has_had_enough(sb: Sandboxes, host: Path, words: tuple[str, ...]) -> None:
    """Who closes the other end of stdout ends it quietly."""
    change(sb, host, "echo x >new")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [SB, *words, "box"], env=sb.environment, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (0, "") == (done.returncode, done.stderr)
