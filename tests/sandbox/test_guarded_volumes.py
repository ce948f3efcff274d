"""Within a volume secrets are covered, and what runs by itself on the host stays as it is and isn't made."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from rootless_sb import unasked
from tests.sandbox.processes import descendants
from tests.sandbox.running import eventually, stdout_until, tell

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox.running import Sandboxes

GIT = ("git", "-c", "user.name=n", "-c", "user.email=n@example.org")


@pytest.fixture
def home(sb: Sandboxes, tmp_path: Path) -> Path:
    """A home with secrets and files that shells read."""
    sb.environment["HOME"] = str(tmp_path)
    for name in (".ssh/id", ".config/gh/hosts.yml", ".netrc", ".config/plain", ".bashrc", "notes"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{name}\n")
    return tmp_path


@pytest.fixture
def project(tmp_path: Path, program: Callable[[str], Path]) -> Path:
    """A repository with one commit, and one without hooks beneath it."""
    program("git")
    for place in (tmp_path / "p", tmp_path / "p/libs/inner"):
        subprocess.run([*GIT, "init", "-q", "-b", "main", place], check=True)
        subprocess.run([*GIT, "commit", "-q", "--allow-empty", "-m", "one"], cwd=place, check=True)
    for hook in (tmp_path / "p/libs/inner/.git/hooks").iterdir():
        hook.unlink()
    (tmp_path / "p/libs/inner/.git/hooks").rmdir()
    return tmp_path / "p"


def everything(top: Path) -> dict[str, tuple[int, bytes]]:
    """The mode and the content of all that is beneath a directory."""
    found = {}
    for path in sorted(top.rglob("*")):
        st = path.lstat()
        text = path.read_bytes() if stat.S_ISREG(st.st_mode) else b""
        found[str(path.relative_to(top))] = (st.st_mode, text)
    return found


def test_a_submodule_in_a_volume(sb: Sandboxes, project: Path) -> None:
    """git's directory of a submodule lies in the project's, and can't be moved away nor given other hooks there."""
    inner = project / "libs/inner/.git"
    (project / ".git/modules/libs").mkdir(parents=True)
    inner.rename(project / ".git/modules/libs/inner")
    inner.write_text("gitdir: ../../.git/modules/libs/inner\n")
    before = everything(project)
    rename = f"{sys.executable} -Ic 'import os, sys; os.rename(*sys.argv[1:])'"  # mv would copy, and remove what it can
    script = f"""
    m=.git/modules; mkdir $m/libs/inner/hooks; echo x >>$m/libs/inner/config; {rename} $m/libs/inner $m/x
    {rename} $m/libs $m/x; {rename} $m m; echo x >libs/inner/.git; {rename} libs/inner/.git x; true
    """
    assert 0 == sb("-v", str(project), "--", "sh", "-c", script, directory=project).returncode
    assert before == everything(project)
    commit = [*GIT, "-C", "libs/inner", "commit", "-q", "--allow-empty", "-m", "two"]
    assert 0 == sb("-v", str(project), "--", *commit, directory=project).returncode


@pytest.mark.parametrize("options", [(), ("--rootfs", "/"), ("--userns", "single")])
@pytest.mark.parametrize("mode", ["rw", "ro"])
def test_secrets_are_covered(sb: Sandboxes, home: Path, mode: str, options: tuple[str, ...]) -> None:
    """Wherever the volume is, on whatever root; what is beside them isn't, and with --show they are there."""
    volume = (*options, "-v", f"{home}:/v:{mode}")
    script = "cat /v/.ssh/id /v/.config/gh/hosts.yml /v/.netrc; cat /v/.config/plain; ls -A /v/.ssh"
    assert ".config/plain\n" == sb("-q", *volume, "--", "sh", "-c", script).stdout
    shown = sb("-q", "--show", str(home / ".ssh"), *volume, "--", "sh", "-c", script).stdout
    assert ".ssh/id\n.config/plain\nid\n" == shown


def test_git_in_a_volume(sb: Sandboxes, project: Path) -> None:
    """What git runs can't be changed, replaced or made, in a repository beneath neither; commits can."""
    before = everything(project)
    script = """
    for d in . libs/inner; do
        echo x >>$d/.git/config; echo x >$d/.git/hooks/pre-commit; mkdir $d/.git/hooks; echo ../x >$d/.git/commondir
        rm -rf $d/.git/config $d/.git/hooks; mv $d/.git $d/g; echo x >y; mv -f y $d/.git/config; rm -f y
        git -C $d config core.fsmonitor x
    done
    """
    assert 0 != sb("-v", str(project), "--", "sh", "-c", script, directory=project).returncode
    assert before == everything(project)
    script = f"{' '.join(GIT)} -C $d commit -qm two --allow-empty; git -C $d status --short"
    script = f"for d in . libs/inner; do {script}; done"
    done = sb("-v", str(project), "--", "sh", "-c", script, directory=project)
    assert (0, "?? libs/\n") == (done.returncode, done.stdout), done.stderr
    for place in (project, project / "libs/inner"):
        log = subprocess.run([*GIT, "log", "--format=%s"], cwd=place, capture_output=True, text=True, check=True)
        assert "two\none\n" == log.stdout


def test_links_to_a_volume_and_out_of_it(sb: Sandboxes, project: Path, tmp_path: Path) -> None:
    """A volume's own path may lead through one, and its git directory to another place in it, and all is held. Nothing
    is made where one leads out of it.
    """
    (project / ".git").rename(project / "g")
    (project / ".git").symlink_to("g")
    (tmp_path / "out/modules").mkdir(parents=True)
    subprocess.run([*GIT, "init", "-q", "--bare", project / "g/modules/m"], check=True)
    subprocess.run([*GIT, "init", "-q", "--bare", tmp_path / "out/modules/m"], check=True)
    (project / "other").mkdir()
    (project / "other/.git").symlink_to(tmp_path / "out")
    (tmp_path / "link").symlink_to("p")
    before = everything(tmp_path)
    script = "cd /v; echo x >g/modules/m/commondir; mkdir .vscode; mv g/modules/m g/modules/n; echo ready; read line"
    running = sb.start("-v", f"{tmp_path}/link:/v", "--", "sh", "-c", script)
    stdout_until(running, b"ready\n")
    during = everything(tmp_path)
    assert {"p/.vscode", "p/g/modules/m/commondir"} <= during.keys() - before.keys()
    assert {} == {name: st for name, st in during.items() if name.startswith("out/") and before.get(name) != st}
    tell(running, "\n")
    running.communicate()
    assert before == everything(tmp_path)


def test_a_new_repository_in_a_volume(sb: Sandboxes, tmp_path: Path, program: Callable[[str], Path]) -> None:
    """`git init` fails at its top in git's own words; one line more says what lets it be made, and then it is."""
    program("git")
    said = f"sb: held: {tmp_path}/.git (--show {tmp_path}/.git)"
    failed = sb("-v", ".", "--", "git", "init", directory=tmp_path)
    assert (128, said) == (failed.returncode, failed.stderr.splitlines()[-1])
    for words in (("git", "init", "-q", "inner"), ("git", "status"), ("sh", "-c", "exit 3")):
        assert "held" not in sb("-v", ".", "--", *words, directory=tmp_path).stderr
    assert "held" not in sb("-q", "-v", ".", "--", "git", "init", directory=tmp_path).stderr
    made = sb("-v", ".", "--show", f"{tmp_path}/.git", "--", "git", "init", "-q", directory=tmp_path)
    assert (0, "", True) == (made.returncode, made.stderr, (tmp_path / ".git/HEAD").exists())


def tries(names: list[str]) -> str:
    """A script that does what it can to have something at each of these names in the working directory."""
    acts = 'mkdir "$n"; echo x >"$n"; ln -s x "$n"; echo x >y; mv -f y "$n"; rm -rf "$n" y; mkdir "$n"'
    return f"for n in {' '.join(names)}; do {acts}; done 2>/dev/null; true"


def test_what_is_missing_cannot_be_made(sb: Sandboxes, tmp_path: Path) -> None:
    """Neither a file nor a directory or link of such a name; with --show one can, and it is on the host."""
    place = tmp_path / "p"
    place.mkdir()
    names = sorted({unasked.first_name(each.path) for each in unasked.PROJECT})
    volume = ("-v", str(place), "-w", str(place), "--")
    assert 0 == sb(*volume, "sh", "-c", tries(names)).returncode
    assert {} == everything(place)
    shown = [option for name in names for option in ("--show", str(place / name))]
    assert 0 == sb(*shown, *volume, "mkdir", *names).returncode
    assert names == list(everything(place))


@pytest.mark.parametrize("name", sorted({unasked.first_name(each.path) for each in unasked.PROJECT} - {".git"}))
def test_what_is_missing_in_an_inner_repository_cannot_be_made(sb: Sandboxes, project: Path, name: str) -> None:
    """Each name, in a repository deeper down; with --show, and where no repository is, it can be made."""
    inner = project / "libs/inner"
    make = ("-v", str(project), "--", "mkdir")
    before = everything(project)
    assert 0 != sb(*make, str(inner / name)).returncode
    assert before == everything(project)
    assert 0 == sb("--show", str(inner / name), *make, str(inner / name)).returncode
    assert 0 == sb(*make, str(project / "libs" / name)).returncode
    assert (inner / name).is_dir()
    assert (project / "libs" / name).is_dir()


def test_what_is_missing_in_a_home_cannot_be_made(sb: Sandboxes, home: Path) -> None:
    """What shells and sessions run isn't made there either, nor the directory that it would be in replaced."""
    (home / ".ssh/id").unlink()
    (home / ".ssh").rmdir()
    before = everything(home)
    missing = [each.path for each in unasked.HOME if not (home / each.path).exists()]
    volume = ("-v", str(home), "-w", str(home), "--")
    assert 0 == sb(*volume, "sh", "-c", f"{tries(missing)}; mv .config c; mv .local l; true").returncode
    assert before == everything(home)
    assert 0 == sb("--show", str(home), *volume, "mkdir", "-p", *missing).returncode
    assert all((home / name).is_dir() for name in missing)


def test_what_is_there_in_a_home_stays(sb: Sandboxes, home: Path) -> None:
    """An rc file can be read and not changed, also by the name that its link leads to; other files can."""
    (home / "dots").mkdir()
    (home / "dots/zshrc").write_text("zsh\n")
    (home / ".zshrc").symlink_to("dots/zshrc")
    (home / ".inputrc").symlink_to("/etc/inputrc")
    script = f"""
    cd {home}; cat .bashrc .zshrc; echo x >>.bashrc; echo x >>.zshrc; echo x >>dots/zshrc; rm -f .zshrc .inputrc
    mv dots d; ln -sfn /tmp .zshrc; ln -sfn /tmp .inputrc; echo fine >notes; echo fine >dots/other
    """
    before = everything(home)
    assert ".bashrc\nzsh\n" == sb("-v", str(home), "--", "sh", "-c", script).stdout
    plain = stat.S_IFREG | 0o644
    assert before | {"notes": (plain, b"fine\n"), "dots/other": (plain, b"fine\n")} == everything(home)
    assert ["dots/zshrc", "/etc/inputrc"] == [os.readlink(home / name) for name in (".zshrc", ".inputrc")]
    assert 0 == sb("--show", str(home), "-v", str(home), "--", "sh", "-c", f"echo x >>{home}/.bashrc").returncode
    assert ".bashrc\nx\n" == (home / ".bashrc").read_text()


def test_a_login_shell_reads_its_own(sb: Sandboxes, home: Path) -> None:
    """What stands for a missing profile hides no other one from a shell."""
    (home / ".profile").write_text("echo profile\n")
    assert "profile\n" == sb("-v", str(home), "--", "bash", "-lc", "true").stdout


def test_two_at_once(sb: Sandboxes, tmp_path: Path) -> None:
    """The end of one takes nothing away from the other, whose volume is guarded until its own end."""
    place = tmp_path / "p"
    place.mkdir()
    volume = ("-v", str(place), "-w", str(place), "--")
    first, second = (sb.start(*volume, "sh", "-c", "echo ready; read line; mkdir .git; ls -A") for _ in range(2))
    for each in (first, second):
        stdout_until(each, b"ready\n")
    for each in (first, second):
        assert ".git" in everything(place)
        tell(each, "\n")
        assert b".git" in each.communicate()[0]
    assert {} == everything(place)


@pytest.mark.parametrize("whom", ["supervisor", "watcher", "both"])
def test_a_kill_leaves_nothing_for_long(sb: Sandboxes, tmp_path: Path, whom: str) -> None:
    """What stands in for missing names is gone after the run, or after the next one if nobody was left to do it."""
    place = tmp_path / "p"
    place.mkdir()
    running = sb.start("-v", str(place), "--", "sh", "-c", "echo ready; read line")
    stdout_until(running, b"ready\n")
    assert {} != everything(place)
    watcher = next(each.pid for each in descendants(os.getpid()) if each.name == "sb-watch")
    if whom == "both":
        os.kill(running.pid, signal.SIGSTOP)
    if whom != "supervisor":
        os.kill(watcher, signal.SIGKILL)
    if whom != "watcher":
        os.kill(running.pid, signal.SIGKILL)
    running.wait()
    if whom == "both":
        eventually(lambda: all(each.state == "Z" for each in descendants(os.getpid())))
        assert 0 == sb.command("prune", "-f").returncode
    eventually(lambda: {} == everything(place))


@pytest.mark.usefixtures("subordinate_ids")
@pytest.mark.parametrize("by", ["run", "prune"])
def test_a_kill_leaves_nothing_for_long_in_others_directories(sb: Sandboxes, tmp_path: Path, by: str) -> None:
    """What was made in a directory of a subordinate id is removed by the next run, of any volume, or by prune."""
    git = tmp_path / "p/in/.git"
    git.mkdir(parents=True)
    volume = ("-v", f"{tmp_path}/p:/v", "--")
    try:
        assert 0 == sb(*volume, "chown", "7:7", "/v/in", "/v/in/.git").returncode
        before = everything(tmp_path / "p")
        running = sb.start(*volume, "sh", "-c", "echo ready; read line")
        stdout_until(running, b"ready\n")
        watcher = next(each.pid for each in descendants(os.getpid()) if each.name == "sb-watch")
        os.kill(watcher, signal.SIGKILL)
        running.wait()
        assert before.keys() < everything(tmp_path / "p").keys()
        (tmp_path / "q").mkdir()
        if by == "run":
            assert 0 == sb("-v", f"{tmp_path}/q:/v", "true").returncode
        else:
            pruned = sb.command("prune", "-f")
            assert (0, "") == (pruned.returncode, pruned.stdout)
            assert "still there" not in pruned.stderr
        assert before == everything(tmp_path / "p")
    finally:
        sb("--show", f"{tmp_path}/p", *volume, "chown", "0:0", "/v/in", "/v/in/.git")


def test_prune_says_what_it_cannot_remove(sb: Sandboxes, tmp_path: Path) -> None:
    """By way of a link that was put there meanwhile, say: in one line. Once the link is gone it is removed."""
    place = tmp_path / "p/in"
    place.mkdir(parents=True)
    running = sb.start("-v", f"{place}:/v", "--", "sh", "-c", "echo ready; read line")
    stdout_until(running, b"ready\n")
    place.parent.rename(tmp_path / "moved")
    place.parent.symlink_to("q")
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    eventually(lambda: all(each.state == "Z" for each in descendants(os.getpid())))
    pruned = sb.command("prune", "-f")
    (told,) = [line for line in pruned.stderr.splitlines() if str(place) in line]
    assert "is still there" in told
    assert {} != everything(tmp_path / "moved/in")
    place.parent.unlink()
    (tmp_path / "moved").rename(place.parent)
    assert str(place) not in sb.command("prune", "-f").stderr
    assert {} == everything(place)


def test_files_that_look_like_placeholders_stay(sb: Sandboxes, tmp_path: Path) -> None:
    """Small files of the user's own that nobody may write to, as some tools keep them."""
    place = tmp_path / "p"
    place.mkdir()
    for name, content in ((".mcp.json", b"{}"), (".envrc", b"")):
        (place / name).write_bytes(content)
        (place / name).chmod(0o444)
    before = everything(place)
    assert 0 == sb("-v", str(place), "true").returncode
    assert before == everything(place)


def test_a_directory_that_cannot_be_written_to(sb: Sandboxes, tmp_path: Path) -> None:
    """Nothing can be made there, so nothing need be guarded: the run goes on; on a read-only volume as well."""
    place = tmp_path / "p"
    place.mkdir(mode=0o500)
    for mode in ("rw", "ro"):
        assert "there\n" == sb("-v", f"{place}:/v:{mode}", "echo", "there").stdout


def test_a_read_only_path_stays_in_its_place(sb: Sandboxes, tmp_path: Path) -> None:
    """The directory above it can't be renamed to make room for another; one beside it can."""
    for name in ("keep/in", "free/in"):
        (tmp_path / "p" / name).mkdir(parents=True)
    script = "cd /v; mv keep gone; mkdir -p keep/in; echo x >keep/in/x; mv free gone; ls"
    options = ("-v", f"{tmp_path}/p:/v", "--read-only-path", "/v/keep/in")
    assert "gone\nkeep\n" == sb(*options, "--", "sh", "-c", script).stdout
    assert {"gone", "gone/in", "keep", "keep/in"} == everything(tmp_path / "p").keys()
