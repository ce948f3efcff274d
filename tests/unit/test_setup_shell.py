"""The shell parts of the set-up, in each shell that may be /bin/sh: contrib/sb and contrib/setup/*.sh."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CONTRIB = Path(__file__).resolve().parents[2] / "contrib"


@pytest.fixture(params=["dash", "bash"])
def shell(request: pytest.FixtureRequest) -> str:
    """The path of a shell."""
    name: str = request.param
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} isn't installed")
    return path


def call(shell: str, text: str, path: str = "/usr/bin:/bin", stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Runs `text` after the set-up's functions."""
    text = f'contrib={CONTRIB}; . "$contrib/setup/environment.sh"; . "$contrib/setup/test_user.sh"; {text}'
    return subprocess.run(
        [shell, "-uc", text], input=stdin, env={"PATH": path}, capture_output=True, text=True, check=False
    )


def make_program(path: Path, text: str) -> None:
    """Writes a shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a space in its name and a complete .venv, whose sb prints its arguments and its folder."""
    checkout = tmp_path / "a checkout"
    shutil.copytree(CONTRIB, checkout / "contrib")
    (checkout / "pyproject.toml").touch()
    make_program(checkout / ".venv/bin/sb", 'echo "$PWD"; printf "<%s>" "$@"')
    make_program(checkout / ".venv/bin/python", "")
    (checkout / ".venv/set-up.run").write_text(f"{checkout}/.venv\n")
    return checkout


@pytest.mark.parametrize("how", ["absolute", "relative", "symlink", "no slash"])
def test_sb_starts_from_anywhere(shell: str, checkout: Path, tmp_path: Path, how: str) -> None:
    """contrib/sb finds its checkout however it is called, keeps the working directory and each argument.

    Nothing on PATH is needed for it: a process more would make every start slower. A symlink may cost one.
    """
    (tmp_path / "link").symlink_to(checkout / "contrib/sb")
    absolute = checkout / "contrib/sb"
    paths = {"absolute": f"{absolute}", "relative": "contrib/sb", "symlink": f"{tmp_path}/link", "no slash": "sb"}
    folder = checkout / "contrib" if how == "no slash" else checkout
    environment = {"PATH": "/usr/bin:/bin" if how == "symlink" else "/absent"}
    done = subprocess.run(
        [shell, paths[how], "run", "a b", ""], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )

    assert done.stdout == f"{folder}\n<run><a b><>"
    assert done.stderr == ""


def is_set_up_again(shell: str, checkout: Path) -> bool:
    """Whether contrib/sb goes to the set-up, of which here is none."""
    (checkout / "contrib/setup/environment.sh").write_text("set_up() { return 1; }\n")
    return subprocess.run([shell, checkout / "contrib/sb"], capture_output=True, check=False).returncode == 125


def test_sb_is_set_up_once(shell: str, checkout: Path) -> None:
    """With a complete .venv nothing is set up."""
    assert not is_set_up_again(shell, checkout)


def test_sb_is_set_up_again_after_an_interruption(shell: str, checkout: Path) -> None:
    """Without the stamp, which is written last."""
    (checkout / ".venv/set-up.run").unlink()
    assert is_set_up_again(shell, checkout)


def test_sb_is_set_up_again_for_another_pyproject(shell: str, checkout: Path) -> None:
    """When the needs may have changed."""
    os.utime(checkout / ".venv/set-up.run", (1_000_000_000, 1_000_000_000))
    assert is_set_up_again(shell, checkout)


def test_sb_is_set_up_again_when_python_is_gone(shell: str, checkout: Path) -> None:
    """After the system's Python was replaced by the next version."""
    (checkout / ".venv/bin/python").unlink()
    (checkout / ".venv/bin/python").symlink_to("/usr/bin/python3.0")
    assert is_set_up_again(shell, checkout)


def test_sb_is_set_up_again_in_another_place(shell: str, checkout: Path) -> None:
    """After the checkout was moved or copied."""
    assert is_set_up_again(shell, checkout.rename(checkout.with_name("moved")))


def test_missing_need_gives_the_administrators_line(shell: str, tmp_path: Path) -> None:
    """Without root and sudo a need that is lacking ends the set-up, with what to type for exactly what is lacking."""
    for program in ("apt-get", "here"):
        make_program(tmp_path / program, "exit 1")
    make_program(tmp_path / "id", "echo 1000")
    rows = "here h1 h2\nabsent-program package-a,package-b other\n"
    done = call(shell, f"provide '{rows}' ''", f"{tmp_path}:/usr/bin:/bin")

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "sb: cannot set up: these are missing: absent-program",
        "",
        "hint: as root: apt-get update -qq; DEBIAN_FRONTEND=noninteractive"
        " apt-get install -qq -y --no-install-recommends package-a package-b",
    ]


def test_distribution_with_an_old_python_has_a_newer_one_beside_it(shell: str, tmp_path: Path) -> None:
    """Where python3 is too old, the packages of python3.11 are named."""
    for version, answer in (("old", 0), ("new", 1)):
        make_program(tmp_path / version, f"exit {answer}")
    lacking = "find_python() { return 1; }; lacking \"$(printf '%s' \"$run_needs\" | head -n 2)\""
    old = call(shell, f"distributions_python={tmp_path}/old; {lacking}")
    new = call(shell, f"distributions_python={tmp_path}/new; {lacking}")

    assert old.stdout == "python>=3.11 python3.11,python3.11-venv,python3.11-dev python3.11,python3.11-devel\n"
    assert new.stdout == "python>=3.11 python3,python3-venv,python3-dev python3,python3-devel\n"


def test_missing_want_is_named_and_no_obstacle(shell: str, tmp_path: Path) -> None:
    """What sb can do without doesn't end the set-up."""
    make_program(tmp_path / "id", "echo 1000")
    done = call(shell, "provide 'sh s s\n' 'absent-program package other\n'", f"{tmp_path}:/usr/bin:/bin")

    assert done.returncode == 0
    assert done.stderr.startswith("sb: going on without: absent-program\n")


def test_nothing_is_said_when_all_is_there(shell: str) -> None:
    """The second call is silent."""
    done = call(shell, "provide 'sh dash dash\n' 'env coreutils coreutils\n'")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_missing_compiler_is_found_out_in_silence(shell: str) -> None:
    """Only the set-up says that the compiler isn't there, also where SIGPIPE is ignored, as Python's children have it.

    Many times, because a writer that nobody reads from doesn't notice it each time.
    """
    done = call(shell, "trap '' PIPE; CC=/nonexistent/cc; for i in $(seq 50); do ! usable compiler || echo found; done")
    assert ("", "") == (done.stdout, done.stderr)


def test_one_package_that_does_not_exist_keeps_out_no_other(shell: str, tmp_path: Path) -> None:
    """When all at once fails, each row is installed by itself."""
    make_program(tmp_path / "id", "echo 0")
    fail_or_record = f'*unknown*) exit 100 ;; *install*) for last; do :; done; echo "$last" >>{tmp_path}/installed ;;'
    make_program(tmp_path / "apt-get", f'case "$*" in {fail_or_record} esac')
    rows = "absent-1 known-1 -\nabsent-2 unknown -\nabsent-3 known-2 -\n"
    done = call(shell, f"provide '' '{rows}'", f"{tmp_path}:/usr/bin:/bin")

    assert done.returncode == 0
    assert (tmp_path / "installed").read_text().split() == ["known-1", "known-2"]


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [("", "100000"), ("a:100000:65536\nb:500000:10\n", "500010"), ("a:1000:10\n", "100000")],
)
def test_subordinate_ids_overlap_no_others(shell: str, tmp_path: Path, ranges: str, expected: str) -> None:
    """The next range begins above all that are given away."""
    (tmp_path / "subuid").write_text(ranges)

    assert call(shell, f"first_free_id {tmp_path}/subuid {tmp_path}/absent").stdout == f"{expected}\n"


def test_every_row_names_packages_of_both_distributions(shell: str) -> None:
    """A row with a word too few would shift what is installed."""
    done = call(shell, 'printf "%s" "$run_needs$run_wants$test_wants"')
    rows = [row for row in done.stdout.splitlines() if row]

    assert rows
    assert [row for row in rows if len(row.split()) != 3] == []
