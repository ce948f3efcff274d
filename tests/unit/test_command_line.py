"""What the command line asks for."""

from __future__ import annotations

import pytest

from rootless_sb import host, paths, target
from rootless_sb.cli import environment, lookup, parsing, run
from rootless_sb.errors import SbError
from rootless_sb.ui import messages


def command(*arguments: str) -> tuple[str, ...]:
    """The COMMAND that a command line after `sb run` has."""
    return run.run_spec(run.parser().parse_strictly(list(arguments))).command


def test_parsing_stops_at_the_command() -> None:
    """What follows COMMAND is its own, options of sb's name included."""
    expected = ("sh", "-c", "x", "--hostname", "y", "--", "z")
    assert expected == command("-w", "/", *expected)
    assert ("--version",) == command("--", "--version")
    assert () == command("-q")


def test_an_unknown_option_names_the_nearest() -> None:
    """A misspelt option gets a hint, also when it has a value."""
    with pytest.raises(SbError) as caught:
        command("--hostnam=x", "true")
    assert "unknown option --hostnam" == str(caught.value)
    assert "--hostname" in caught.value.hint


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("x y", "unexpected argument y"),
        ("x -- -y", "unexpected argument -y"),
        ("-- x -y", "unexpected argument -y"),
        ("x -- --", "unexpected argument --"),
        ("x -y", "unknown option -y"),
        ("x -y -- -y", "unknown option -y"),
        ("-y=3 x --", "unknown option -y"),
    ],
)
def test_one_argument_too_many(words: str, said: str) -> None:
    """It is called that, with a dash in front too when it comes after `--`, and isn't taken for an option."""
    parser = parsing.Parser("x", "", "")
    parser.add_argument("name")
    with pytest.raises(SbError) as caught:
        parser.parse_strictly(words.split())
    assert said == str(caught.value)


def test_options_are_not_abbreviated() -> None:
    """A prefix of an option is no option: scripts would break with the next one."""
    with pytest.raises(SbError):
        command("--hostn", "x", "true")


def test_variables() -> None:
    """K=V sets, K takes from outside if it is there, later ones win, comments and empty lines don't count."""
    outside = {"HERE": "1", "A": "x"}
    assert {"A": "3", "HERE": "1", "E": ""} == environment.assignments(
        ["A=2", "# no", "", "HERE", "GONE", "A=3", "E="], outside
    )
    with pytest.raises(SbError):
        environment.assignments(["=x"], {})


def test_names_cannot_write_to_the_terminal() -> None:
    """Control characters and bytes that aren't UTF-8 are escaped in messages."""
    assert "a\\x1b[2Jb\\x0a\\xff\\u202e" == messages.printable("a\x1b[2Jb\n\udcff\u202e")
    assert "naïve ☃" == messages.printable("naïve ☃")


def test_programs_are_looked_up_as_execvp_does() -> None:
    """A slash means no search; an empty entry of PATH is the working directory."""
    assert ["./x"] == target.candidates("./x", "/bin")
    assert ["/bin/x", "./x", "/usr/bin/x"] == target.candidates("x", "/bin::/usr/bin")
    assert [] == target.candidates("", "/bin")


@pytest.mark.parametrize("home", [None, "", "relative", "/elsewhere"])
def test_sandboxes_are_looked_for_where_runs_keep_them(monkeypatch: pytest.MonkeyPatch, home: str | None) -> None:
    """Without a HOME, or one of no use, all commands take the account's."""
    for name in ("SB_DATA_HOME", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    machine = host.probe()
    assert paths.store(dict(machine.environment), machine.home) == lookup.places().store
