"""Installing and using software on the host's view, as root of the sandbox; the host has none of it afterwards."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.running import Sandboxes

WHEEL = {
    "tiny_tool.py": "def main():\n    print('tiny tool runs')\n",
    "tiny_tool-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny-tool\nVersion: 1.0\n",
    "tiny_tool-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "tiny_tool-1.0.dist-info/entry_points.txt": "[console_scripts]\ntiny-tool = tiny_tool:main\n",
}


@pytest.fixture(params=["root", "single"])
def userns(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The options for all subordinate ids (if there are any), and for one id."""
    mode: str = request.param
    return "--userns", mode


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel with one module and one console script."""
    path = tmp_path / "tiny_tool-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in WHEEL.items():
            archive.writestr(name, text)
        record = "".join(f"{name},,\n" for name in (*WHEEL, "tiny_tool-1.0.dist-info/RECORD"))
        archive.writestr("tiny_tool-1.0.dist-info/RECORD", record)
    return path


def succeed(sb: Sandboxes, userns: tuple[str, str], script: str, *, directory: Path | None = None) -> str:
    """Run a shell script inside; every command of it must succeed. Returns what it printed."""
    result = sb(*userns, "sh", "-euc", script, directory=directory)
    assert 0 == result.returncode, result.stdout + result.stderr
    return result.stdout


def test_dpkg(sb: Sandboxes, userns: tuple[str, str], hello_deb: Path) -> None:
    """dpkg installs a package and its program runs; then it removes it again; the host never has it.

    Without triggers: man-db's one indexes all manual pages of the host, however many there are.
    """
    if Path("/usr/bin/hello").exists():
        pytest.skip("the package hello is installed on this host")
    script = f"""
        dpkg --no-triggers -i {hello_deb} >&2
        hello; dpkg -s hello | grep ^Status; dpkg -V hello; test -e /usr/share/doc/hello
        dpkg --no-triggers --purge hello >&2
        test -e /usr/bin/hello || echo gone
        """
    output = succeed(sb, userns, script)
    assert ["Hello, world!", "Status: install ok installed", "gone"] == output.splitlines()
    assert not Path("/usr/bin/hello").exists()
    assert 0 != subprocess.run(["dpkg", "-s", "hello"], capture_output=True, check=False).returncode


def test_gcc(sb: Sandboxes, userns: tuple[str, str], tmp_path: Path, program: Callable[[str], Path]) -> None:
    """A C program is built and installed in /usr/local/bin, and runs from there."""
    program("gcc")
    (tmp_path / "sum.c").write_text('#include <stdio.h>\nint main(void) { printf("%d\\n", 40 + 2); return 0; }\n')
    script = "gcc -O2 -Wall -o sum sum.c; install -m 755 sum /usr/local/bin/sb-test-sum; sb-test-sum"
    assert "42\n" == succeed(sb, userns, script, directory=tmp_path)
    assert ["sum.c"] == [path.name for path in tmp_path.iterdir()]
    assert not Path("/usr/local/bin/sb-test-sum").exists()


def test_git(sb: Sandboxes, userns: tuple[str, str], tmp_path: Path, program: Callable[[str], Path]) -> None:
    """A repository is made, committed to, cloned, packed and found sound; the host's directory stays empty."""
    program("git")
    script = """
        git init -q -b main one; cd one; git config user.name n; git config user.email e@example.org
        for i in 1 2 3; do echo $i >file$i; git add -A; git commit -qm "commit $i"; done
        git clone -q . ../two; cd ../two; git gc -q; git fsck --strict >&2; git log --format=%s; git status --short
        """
    assert ["commit 3", "commit 2", "commit 1"] == succeed(sb, userns, script, directory=tmp_path).splitlines()
    assert [] == list(tmp_path.iterdir())


def test_a_repository_of_the_user(sb: Sandboxes, tmp_path: Path, program: Callable[[str], Path]) -> None:
    """The user's own repository is root's own inside: git doesn't suspect its owner, and commits stay inside."""
    program("git")
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "main", tmp_path], check=True)
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "first"], cwd=tmp_path, check=True)
    script = f"git {' '.join(identity)} commit -q --allow-empty -m second; git log --format=%s"
    assert ["second", "first"] == succeed(sb, ("--userns", "root"), script, directory=tmp_path).splitlines()
    log = subprocess.run(["git", "log", "--format=%s"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True)
    assert "first\n" == log.stdout


def test_sqlite(sb: Sandboxes, userns: tuple[str, str], tmp_path: Path, program: Callable[[str], Path]) -> None:
    """A database takes inserts with a rollback journal and with a write-ahead log (which maps shared memory)."""
    program("sqlite3")
    script = """
        sqlite3 db 'create table t(a); insert into t values(1); pragma journal_mode=wal; insert into t values(2);'
        sqlite3 db 'insert into t values(39); select sum(a) from t; pragma integrity_check;'
        """
    assert ["wal", "42", "ok"] == succeed(sb, userns, script, directory=tmp_path).splitlines()
    assert [] == list(tmp_path.iterdir())


def test_pip(sb: Sandboxes, userns: tuple[str, str], wheel: Path) -> None:
    """pip installs a wheel where the host's Python finds it, and its script runs; the host doesn't find it."""
    install = f"{sys.executable} -I -m pip install --quiet --no-index --no-input --root-user-action=ignore {wheel}"
    tool = Path(sys.executable).parent / "tiny-tool"
    script = f"{install}; {tool}; {sys.executable} -I -m pip show tiny-tool | grep ^Version"
    assert ["tiny tool runs", "Version: 1.0"] == succeed(sb, userns, script).splitlines()
    assert not tool.exists()
    assert 0 != subprocess.run([sys.executable, "-c", "import tiny_tool"], capture_output=True, check=False).returncode
