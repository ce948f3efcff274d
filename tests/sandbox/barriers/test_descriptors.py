"""Attack: what the caller has open, reopened through /proc/self/fd. Barriers: pipes in their place, no others."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from tests.sandbox.barriers.attackers import program
from tests.sandbox.running import SB

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.barriers.attackers import Attacker
    from tests.sandbox.running import Sandboxes

# Opens each descriptor again, for writing, at its beginning.
REOPEN = """
    for descriptor in (0, 1, 2):
        try:
            os.write(os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK), b"OVERWRITTEN")
        except OSError:
            pass
    """


def test_redirected_files(sb: Sandboxes, tmp_path: Path) -> None:
    """The files on stdin, stdout and stderr can't be written over from inside; outside they can."""
    source, log = tmp_path / "source", tmp_path / "log"

    def run(start: list[str]) -> tuple[str, str]:
        source.write_text("what was there\n")
        log.write_text("first line\n")
        with source.open() as stdin, log.open("a") as stdout:
            subprocess.run(start, env=sb.environment, stdin=stdin, stdout=stdout, stderr=stdout, check=True)
        return source.read_text(), log.read_text()

    inside = run([str(SB), "run", "-q", "--", *program(REOPEN)])
    assert "what was there\n" == inside[0]
    assert inside[1].startswith("first line\n")
    outside = run(program(REOPEN))
    assert ["OVERWRITTEN"] * 2 == [text[:11] for text in outside]


def test_descriptors_of_directories(sb: Sandboxes) -> None:
    """A directory that the caller left open, above the layer or anywhere, isn't open inside."""
    look = "print(outcome(os.listdir, int(sys.argv[1])))"
    directory = os.open("/", os.O_RDONLY)
    os.set_inheritable(directory, True)
    try:
        run = sb.start("--", *program(look), str(directory), descriptors=(directory,))
        assert b"EBADF\n" == run.communicate(timeout=60)[0]
        command = [*program(look), str(directory)]
        control = subprocess.run(command, pass_fds=(directory,), stdout=subprocess.PIPE, check=True)
        assert b"done\n" == control.stdout
    finally:
        os.close(directory)


def test_preserved_files(sb: Sandboxes, tmp_path: Path) -> None:
    """--preserve-fd: the file can't be written over by its descriptor, and what wasn't named isn't open; outside it is.
    """
    path = tmp_path / "source"
    path.write_text("what was there\n")
    descriptors = [os.open(path, os.O_RDONLY) for _ in range(3)]
    number = descriptors[1]
    look = f"""
        found = []
        for each in {descriptors}:
            try:
                os.fstat(each)
                found.append(each)
            except OSError:
                pass
        print(found)
        try:
            os.write(os.open("/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK), b"OVERWRITTEN")
        except OSError:
            pass
        """
    try:
        run = sb.start("-q", "--preserve-fd", str(number), "--", *program(look), descriptors=descriptors)
        assert f"[{number}]\n".encode() == run.communicate(timeout=60)[0]
        assert "what was there\n" == path.read_text()
        control = subprocess.run(program(look), pass_fds=descriptors, stdout=subprocess.PIPE, check=True)
        assert f"{descriptors}\n".encode() == control.stdout
        assert path.read_text().startswith("OVERWRITTEN")
    finally:
        for each in descriptors:
            os.close(each)


def test_the_working_directory(attacker: Attacker) -> None:
    """The working directory is the sandbox's: what is made there isn't on the host, and `..` leads to its own root."""
    mark = f"sb-mark-{os.getpid()}"
    script = f"""
        open({mark!r}, "w").close()
        for _ in range(64):
            os.chdir("..")
        print(os.getcwd(), os.path.samestat(os.stat("."), os.stat("/")), "sb-init" in open("proc/1/comm").read())
        """
    assert ["/ True True"] == attacker(script)
    assert not os.path.exists(mark)
