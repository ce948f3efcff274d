"""`sb apply`: a sandbox's changes on the host, and what keeps them from it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.reviewing import at_a_terminal, change, changes, diff, snapshot
from tests.sandbox.running import PATIENCE, read_until, stdout_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory of the host's with a bit of everything."""
    made = tmp_path / "host"
    made.mkdir()
    (made / "file").write_text("one\n")
    (made / "other").write_text("other\n")
    (made / "directory").mkdir()
    (made / "directory/inner").write_text("inner\n")
    (made / "directory/second").write_text("second\n")
    (made / "link").symlink_to("file")
    return made


def apply(sb: Sandboxes, *arguments: str) -> str:
    """Apply; it must succeed. Returns what it said."""
    done = sb.command("apply", *arguments)
    assert (0, "") == (done.returncode, done.stderr if done.returncode else "")
    return done.stderr


def refused(sb: Sandboxes, *arguments: str) -> str:
    """Apply; it must be refused. Returns what it said."""
    done = sb.command("apply", *arguments)
    assert (125, "") == (done.returncode, done.stdout)
    return done.stderr


EVERYTHING = """
echo two >file; rm other; mkdir -p new/deep; echo x >new/deep/file; ln new/deep/file new/hard
rm -r directory; echo y >directory; ln -sfn new link; mkfifo pipe; chmod 640 file; setfattr -n user.x -v 1 new
touch -d @1000 new/deep/file; printf x >$'odd\\n\\xff'
"""


def test_everything_is_as_in_the_sandbox(sb: Sandboxes, host: Path) -> None:
    """All kinds of changes, in one go, with times, and nothing is left beside them; then nothing differs."""
    change(sb, host, EVERYTHING)
    before = snapshot(host)
    apply(sb, "box")
    assert before != snapshot(host)
    assert [] == diff(sb, host)
    assert ["two\n", "y\n"] == [(host / name).read_text() for name in ("file", "directory")]
    assert ["directory", "file", "link", "new", os.fsdecode(b"odd\n\xff"), "pipe"] == sorted(os.listdir(host))
    assert os.path.samefile(host / "new/deep/file", host / "new/hard")
    assert (1000, b"1") == ((host / "new/deep/file").stat().st_mtime, os.getxattr(host / "new", "user.x"))
    assert 0o640 == stat.S_IMODE((host / "file").stat().st_mode)


def test_a_directory_that_is_shut(sb: Sandboxes, host: Path) -> None:
    """What its owner may open, is opened for the time being, and has the mode that it is to have in the end."""
    (host / "directory").chmod(0o500)
    change(sb, host, "echo x >directory/inner; echo y >directory/new; mkdir shut; echo z >shut/file; chmod 555 shut")
    apply(sb, "box")
    assert [0o500, 0o555] == [stat.S_IMODE((host / name).stat().st_mode) for name in ("directory", "shut")]
    assert ["x\n", "y\n"] == [(host / "directory" / name).read_text() for name in ("inner", "new")]
    for name in ("directory", "shut"):
        (host / name).chmod(0o700)


def test_named_changes(sb: Sandboxes, host: Path) -> None:
    """A path takes what is at it and beneath it, and the new directories above; one without changes is an error."""
    change(sb, host, EVERYTHING)
    apply(sb, "box", str(host / "new/deep"))
    assert [["deep"], ["file"]] == [os.listdir(host / name) for name in ("new", "new/deep")]
    assert "one\n" == (host / "file").read_text()
    (host / "alias").symlink_to(host)
    apply(sb, "box", str(host / "alias/file"))
    assert "two\n" == (host / "file").read_text()
    said = refused(sb, "box", str(host / "othre"))
    assert said.startswith(f"sb: nothing has changed at {host}/othre\n\nhint: did you mean {host}/other?")


def test_options_after_the_name(sb: Sandboxes, host: Path) -> None:
    """Options may come between the name and the paths."""
    change(sb, host, "echo x >.bashrc; echo two >file; echo y >other")
    apply(sb, "box", "--allow-risky", str(host / ".bashrc"), "-q", str(host / "file"))
    assert ["x\n", "two\n", "other\n"] == [(host / name).read_text() for name in (".bashrc", "file", "other")]


@pytest.mark.parametrize(
    ("inside", "outside", "what"),
    [
        ("echo two >file", lambda host: (host / "file").write_text("three\n"), "file"),
        ("echo two >file", lambda host: (host / "file").unlink(), "file"),
        ("echo two >new; mv new file", lambda host: (host / "file").write_text("three\n"), "file"),
        ("rm file", lambda host: (host / "file").write_text("three\n"), "file"),
        ("rm -r directory", lambda host: (host / "directory/new").write_text("x"), "directory"),
        ("rm -r directory; echo >directory", lambda host: (host / "directory/inner").write_text("x"), "directory"),
        ("chmod 700 directory", lambda host: (host / "directory").chmod(0o750), "directory"),
        ("echo x >new", lambda host: (host / "new").write_text("y"), "new"),
        (
            "echo x >directory/inner",
            lambda host: subprocess.run(["rm", "-r", host / "directory"], check=True),
            "directory",
        ),
    ],
)
def test_conflicts(sb: Sandboxes, host: Path, inside: str, outside: Callable[[Path], object], what: str) -> None:
    """What the host has changed since is named, and nothing is written; with `host` the rest is."""
    change(sb, host, f"{inside}; echo 2 >other")
    outside(host)
    before = snapshot(host)
    said = refused(sb, "box")
    assert f"sb: conflict: {host}/{what}: the host has " in said
    assert "hint: --conflicts host leaves these out" in said
    assert before == snapshot(host)
    apply(sb, "box", "--conflicts", "host")
    assert {**before, "other": snapshot(host)["other"]} == snapshot(host)
    assert "2\n" == (host / "other").read_text()


def test_in_a_directory_that_was_made_anew(sb: Sandboxes, host: Path) -> None:
    """What was in one of its directories is deleted too, unless the host has changed it since all of it was: be it
    before the sandbox made a directory of that name again.
    """
    for name in ("kept", "changed"):
        (host / "directory" / name).mkdir()
        (host / "directory" / name / "file").write_text("one\n")
    change(sb, host, "rm -r directory; mkdir directory")
    (host / "directory/changed/file").write_text("two\n")
    again = [f"{host}/directory/{name}" for name in ("kept", "changed")]
    assert 0 == sb.command("exec", "box", "mkdir", *again).returncode
    said = refused(sb, "box").splitlines()
    assert [f"sb: conflict: {host}/directory/changed/file: the host has changed it"] == said[:1]
    assert said[1].startswith("sb: cannot apply 1 of the changes")
    apply(sb, "box", "--conflicts", "host")
    assert ([], ["file"]) == (os.listdir(host / "directory/kept"), os.listdir(host / "directory/changed"))


def test_the_sandbox_can_win(sb: Sandboxes, host: Path) -> None:
    """With `--conflicts sandbox` the host's version goes."""
    change(sb, host, "echo two >file; rm -r directory; echo x >other")
    (host / "file").write_text("three\n")
    (host / "directory/new").write_text("x")
    (host / "other").unlink()
    apply(sb, "box", "--conflicts", "sandbox")
    assert ["file", "link", "other"] == sorted(os.listdir(host))
    assert ["two\n", "x\n"] == [(host / name).read_text() for name in ("file", "other")]


def test_what_is_no_conflict(sb: Sandboxes, host: Path) -> None:
    """The host's other files, and what an earlier apply has written, are none; the sandbox can go on."""
    change(sb, host, "echo two >file; mkdir new; echo x >new/file; chmod 700 directory")
    (host / "other").write_text("changed\n")
    apply(sb, "box")
    script = f"cd {host}; echo three >file; echo y >new/file; chmod 750 directory; rm -r directory/inner"
    assert 0 == sb.command("exec", "box", "sh", "-c", script).returncode
    apply(sb, "box")
    assert ["three\n", "y\n"] == [(host / name).read_text() for name in ("file", "new/file")]
    assert 0 == sb.command("exec", "box", "sh", "-c", f"rm -r {host}/new {host}/file").returncode
    apply(sb, "box")
    assert ["directory", "link", "other"] == sorted(os.listdir(host))
    assert 0 == sb.command("exec", "box", "sh", "-c", f"mkdir {host}/new; echo z >{host}/new/file").returncode
    apply(sb, "box")
    assert "z\n" == (host / "new/file").read_text()


def test_what_was_applied_and_removed_by_the_host(sb: Sandboxes, host: Path) -> None:
    """That is a conflict too: the file isn't made again unasked."""
    change(sb, host, "echo x >new")
    apply(sb, "box")
    (host / "new").unlink()
    assert f"sb: conflict: {host}/new: the host has removed it" in refused(sb, "box")


def test_two_sandboxes_over_one_another(sb: Sandboxes, host: Path) -> None:
    """What both have changed is the second one's conflict; the same from both is none."""
    change(sb, host, "echo a >file; echo same >other; echo a >new", name="a")
    change(sb, host, "echo b >file; echo same >other; echo b >only", name="b")
    apply(sb, "a")
    said = refused(sb, "b")
    assert [f"sb: conflict: {host}/file: the host has changed it"] == said.splitlines()[:1]
    apply(sb, "b", "--conflicts", "host")
    assert ["a\n", "same\n", "a\n", "b\n"] == [(host / name).read_text() for name in ("file", "other", "new", "only")]


def test_only_root_could(sb: Sandboxes, host: Path, subordinate_ids: int) -> None:
    """Others' files and directories, other owners: found before anything is written; named paths go without them."""
    assert subordinate_ids
    change(sb, host, "echo x >/etc/new; echo y >/etc/issue; chown 5 file; echo 2 >other")
    before = snapshot(host)
    said = refused(sb, "box")
    assert "sb: not yours: /etc/new: its directory is root's" in said
    assert f"sb: not yours: {host}/file: it is to belong to user 5" in said
    assert before == snapshot(host)
    apply(sb, "box", str(host / "other"))
    assert "2\n" == (host / "other").read_text()


@pytest.mark.parametrize(
    ("script", "path"),
    [
        ("cp /bin/true new; chmod 4755 new", "new"),
        ("mkdir -p .ssh; echo x >.ssh/authorized_keys", ".ssh/authorized_keys"),
        ("echo x >.bashrc", ".bashrc"),
        ("git init -q repository; echo x >repository/.git/hooks/post-checkout", "repository/.git/hooks/post-checkout"),
        ("mkdir -p .config/autostart; echo x >.config/autostart/x.desktop", ".config/autostart/x.desktop"),
    ],
)
def test_what_runs_by_itself(sb: Sandboxes, host: Path, script: str, path: str) -> None:
    """Without somebody to ask it is refused and named, and nothing is written; --allow-risky takes it."""
    change(sb, host, f"{script}; echo 2 >other")
    before = snapshot(host)
    said = refused(sb, "box")
    assert f"sb: risky: {host}/{path}: " in said
    assert "hint: --allow-risky" in said
    assert before == snapshot(host)
    apply(sb, "box", "--allow-risky")
    assert (host / path).exists()


def test_asked_one_by_one(sb: Sandboxes, host: Path) -> None:
    """Who sits at a terminal is asked for each of these, with the reason, and what he declines is left out."""
    change(sb, host, "echo x >.bashrc; echo x >.profile; cp /bin/true new; chmod 4755 new; echo 2 >other")
    process, master = at_a_terminal(sb, "apply", "box")
    for path, reason, answer in ((".bashrc", "a shell", "y"), (".profile", "a shell", "n"), ("new", "it runs", "")):
        asked = read_until(master, b"[y/N] ").decode()
        assert f"A {host}/{path}: {reason}" in asked.replace("\r\n", "")
        assert not (host / ".bashrc").exists()
        os.write(master, f"{answer}\n".encode())
    read_until(master, b"applied: 1 added, 1 changed (4 B); 2 left out")
    assert 0 == process.wait(PATIENCE)
    os.close(master)
    assert [".bashrc", "directory", "file", "link", "other"] == sorted(os.listdir(host))


def test_the_host_goes_on_while_somebody_is_asked(sb: Sandboxes, host: Path) -> None:
    """What the host puts into a directory that is to go, while the question waits, stays, and so does all else."""
    change(sb, host, "echo x >.bashrc; rm -r directory")
    process, master = at_a_terminal(sb, "apply", "box")
    read_until(master, b"[y/N] ")
    (host / "directory/new").write_text("precious\n")
    before = snapshot(host)
    os.write(master, b"y\n")
    read_until(master, f"cannot apply {host}/directory: the host has changed it meanwhile".encode())
    assert 125 == process.wait(PATIENCE)
    os.close(master)
    assert before == snapshot(host)
    assert f"sb: conflict: {host}/directory: the host has changed what is in it" in refused(sb, "box")


def test_dry_run_writes_nothing(sb: Sandboxes, host: Path) -> None:
    """--dry-run lists every change and what speaks against it, as text and as JSON."""
    change(sb, host, "echo x >.bashrc; echo 2 >file; rm other; echo x >/etc/new")
    (host / "file").write_text("3\n")
    before = snapshot(host)
    listed = sb.command("apply", "--dry-run", "box").stdout.splitlines()
    assert before == snapshot(host)
    assert "A /etc/new  (obstacle: its directory is root's)" == listed[0]
    assert [f"C {host}/file  (conflict: the host has changed it)", f"D {host}/other"] == listed[2:]
    document = json.loads(sb.command("apply", "--dry-run", "--json", "box").stdout)
    (risky,) = (each for each in document["changes"] if each["path"].endswith(".bashrc"))
    assert ("A", None, None) == (risky["kind"], risky["conflict"], risky["obstacle"])
    assert "a shell" in risky["risk"]
    assert "sb: --json: it is for --dry-run" in refused(sb, "--json", "--conflicts", "sandbox", "--allow-risky", "box")
    assert before == snapshot(host)


def test_attributes_and_holes(sb: Sandboxes, host: Path, program: Callable[[str], Path]) -> None:
    """Extended attributes and ACLs of a file that is replaced stay, holes stay holes, a removed attribute goes."""
    setfacl, getfacl = program("setfacl"), program("getfacl")
    os.setxattr(host / "file", "user.x", b"1")
    os.setxattr(host / "other", "user.x", b"1")
    subprocess.run([setfacl, "-m", "u:5:rw,u:12345:r", host / "file"], check=True)
    acl = subprocess.run([getfacl, "-c", host / "file"], capture_output=True, text=True, check=True).stdout
    script = "echo two >>file; truncate -s 100M sparse; echo x >>sparse"
    change(sb, host, f"{script}; setfattr -n user.y -v 2 file; setfattr -x user.x other")
    apply(sb, "box")
    assert [] == os.listxattr(host / "other")
    assert "one\ntwo\n" == (host / "file").read_text()
    assert [b"1", b"2"] == [os.getxattr(host / "file", name) for name in ("user.x", "user.y")]
    assert acl == subprocess.run([getfacl, "-c", host / "file"], capture_output=True, text=True, check=True).stdout
    assert (host / "sparse").stat().st_blocks * 512 < 1_000_000 < (host / "sparse").stat().st_size


def test_acls(sb: Sandboxes, host: Path, program: Callable[[str], Path], subordinate_ids: int) -> None:
    """ACLs that the sandbox has set, access and default, are the host's too, with the host's ids: the user's own is
    another one inside, and entries of ids that the sandbox hasn't got stay.
    """
    setfacl, getfacl = program("setfacl"), program("getfacl")
    unseen = 1_000_000
    for name in ("file", "other"):
        subprocess.run([setfacl, "-m", f"u:{unseen}:rw", host / name], check=True)
    subprocess.run([setfacl, "-m", "u:7:rx", host / "directory"], check=True)
    script = """
    setfacl -m u:5:r,u:0:rwx,g:6:- file; chmod 640 other; setfacl -b directory; setfacl -dm u:5:rwx,g:0:r directory
    mkdir new; setfacl -dm u:8:rx new; echo x >new/inherits; mkfifo pipe; setfacl -m u:9:rw pipe
    """
    change(sb, host, script)
    assert "C file" in diff(sb, host)
    assert ["mode", "xattrs"] == next(each["changed"] for each in changes(sb) if each["path"] == f"{host}/file")
    apply(sb, "box")
    assert [] == diff(sb, host)

    def acl(name: str, *options: str) -> set[str]:
        shown = subprocess.run([getfacl, "-cnE", *options, host / name], capture_output=True, text=True, check=True)
        return set(shown.stdout.split()) - {""}

    assert {f"user:{unseen}:rw-", "user:5:r--", f"user:{os.getuid()}:rwx", "group:6:---"} <= acl("file")
    assert {f"user:{unseen}:rw-", "mask::r--"} <= acl("other")
    assert (False, {"default:user:5:rwx", f"default:group:{os.getgid()}:r--"} <= acl("directory")) == (
        "user:7:r-x" in acl("directory"),
        True,
    )
    assert ("user:8:r-x" in acl("new/inherits"), "user:9:rw-" in acl("pipe")) == (True, True)


def test_hard_links(sb: Sandboxes, host: Path) -> None:
    """One file under several names stays one, be it new, changed, or one that the host has already."""
    os.link(host / "file", host / "second")
    change(sb, host, "cat file second >/dev/null; echo two >file; ln other third; echo x >new; ln new newer")
    apply(sb, "box")
    assert [] == diff(sb, host)
    for one, same in (("file", "second"), ("other", "third"), ("new", "newer")):
        assert os.path.samefile(host / one, host / same), one


def test_what_is_hidden_is_not_overwritten(sb: Sandboxes, host: Path) -> None:
    """A file that the sandbox couldn't see stays, whatever the sandbox put at its place or removed around it."""
    made = sb("--name", "box", "-q", "--hide", str(host / "file"), "-w", str(host), "--", "sh", "-c", "echo x >file")
    assert (0, "") == (made.returncode, made.stderr)
    assert "something is there that is hidden from the sandbox" in refused(sb, "box", "--conflicts", "sandbox")
    hidden = str(host / "directory/inner")
    assert 0 == sb("--name", "two", "-q", "--hide", hidden, "-w", str(host), "--", "rm", "-r", "directory").returncode
    assert f"{hidden} in it is hidden from the sandbox" in refused(sb, "two", "--conflicts", "sandbox")
    assert ("one\n", "inner\n") == ((host / "file").read_text(), (host / "directory/inner").read_text())


def test_what_is_hidden_by_default_is_not_overwritten(sb: Sandboxes, host: Path) -> None:
    """A key that the sandbox puts where it saw no directory doesn't reach the one that is there; it is called what it
    is, nothing that root could do; and the rest can be applied by name.
    """
    sb.environment["HOME"] = str(host)
    (host / ".ssh").mkdir()
    (host / ".ssh/config").write_text("precious\n")
    change(sb, host, "mkdir .ssh; echo x >.ssh/authorized_keys; mkdir .aws; echo x >.aws/credentials; echo two >file")
    said = refused(sb, "box", "--allow-risky", "--conflicts", "sandbox")
    assert f"sb: hidden: {host}/.ssh: something is there that is hidden from the sandbox\n" in said
    assert "root" not in said
    assert "hint: name the paths that you want" in said
    shown = sb.command("apply", "--dry-run", "box").stdout
    assert f"A {host}/.ssh  (hidden: something is there that is hidden from the sandbox)\n" in shown
    refused(sb, "box", str(host / ".ssh/authorized_keys"), "--allow-risky")
    apply(sb, "box", str(host / ".aws"), str(host / "file"), "--allow-risky")
    assert (["config"], ["credentials"]) == (os.listdir(host / ".ssh"), os.listdir(host / ".aws"))
    assert "two\n" == (host / "file").read_text()


def test_one_that_runs(sb: Sandboxes, host: Path) -> None:
    """Nothing is applied of a sandbox that still writes; who holds it is said, and how to end it."""
    run = sb.start("--name", "box", "-w", str(host), "--", "sh", "-c", "echo x >new; echo ready; read line")
    stdout_until(run, b"ready\n")
    said = refused(sb, "box")
    assert said.startswith("sb: cannot apply box: process ")
    assert said.endswith("hint: sb stop box\n")
    assert [] == [each for each in os.listdir(host) if each == "new"]


def test_named_changes_of_another_root(sb: Sandboxes, tmp_path: Path) -> None:
    """Their paths are that root's, whatever this machine has there: a symlink, say."""
    root = tmp_path / "root"
    for name in ("bin", "proc", "dev", "sys", "etc"):
        (root / name).mkdir(parents=True)
    for name in ("busybox", "sh"):
        subprocess.run(["cp", "/bin/busybox", root / "bin" / name], check=True)
    link = f"{tmp_path}/link"
    os.symlink("root", link)
    script = f"echo x >/new; echo x >/etc/new; /bin/busybox mkdir -p {link}; echo x >{link}/new"
    assert 0 == sb("--rootfs", str(root), "--name", "box", "-w", "/etc", "--", "/bin/sh", "-c", script).returncode
    apply(sb, "box", f"{link}/new")
    apply(sb, "box", "new")
    assert ["x\n", "x\n", False] == [
        (root / f"{link[1:]}/new").read_text(),
        (root / "etc/new").read_text(),
        (root / "new").exists(),
    ]


def test_a_root_that_is_gone(sb: Sandboxes, host: Path, tmp_path: Path) -> None:
    """Applying to a directory that isn't there any more is an error with its path."""
    root = tmp_path / "root"
    for name in ("bin", "proc", "dev", "sys", "etc"):
        (root / name).mkdir(parents=True)
    subprocess.run(["cp", "/bin/busybox", root / "bin/sh"], check=True)
    assert 0 == sb("--rootfs", str(root), "--name", "box", "--", "/bin/sh", "-c", "echo x >/etc/new").returncode
    root.rename(host / "root")
    assert f"cannot open {root}: No such file or directory" in refused(sb, "box")
    (host / "root").rename(root)
    apply(sb, "box")
    assert "x\n" == (root / "etc/new").read_text()


def test_many(sb: Sandboxes, host: Path) -> None:
    """Thousands of changes are a matter of seconds."""
    script = "for i in $(seq 2000); do echo $i >directory/$i; done"
    change(sb, host, script)
    begin = time.monotonic()
    assert 2000 == len(changes(sb))
    apply(sb, "box")
    assert time.monotonic() - begin < 60
    assert 2002 == len(os.listdir(host / "directory"))
